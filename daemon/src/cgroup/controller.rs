//! The controllers that limit sandboxes.

/// A controller (cgroups(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// Limits and counts memory.
    Memory,
    /// Limits time on processors.
    Cpu,
    /// Limits how many tasks there are.
    Pids,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    /// What the kernel calls it, in both versions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Memory => 1,
            Self::Cpu => 2,
            Self::Pids => 4,
        }
    }
}

impl std::fmt::Display for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Set(u8);

impl Set {
    /// Those of ours that a list names, whatever else is in it.
    pub(super) fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = Self::default();
        for name in names {
            set.extend(Controller::ALL.into_iter().filter(|c| c.name() == name));
        }
        set
    }

    pub(super) fn has(self, controller: Controller) -> bool {
        self.0 & controller.bit() != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Controller> {
        Controller::ALL.into_iter().filter(move |c| self.has(*c))
    }
}

impl Extend<Controller> for Set {
    fn extend<T: IntoIterator<Item = Controller>>(&mut self, controllers: T) {
        for controller in controllers {
            self.0 |= controller.bit();
        }
    }
}

impl FromIterator<Controller> for Set {
    fn from_iter<T: IntoIterator<Item = Controller>>(controllers: T) -> Self {
        let mut set = Self::default();
        set.extend(controllers);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_strangers_passed_over() {
        let set = Set::named("cpuset cpu io memory hugetlb".split(' '));
        assert_eq!(set.iter().collect::<Vec<_>>(), [Controller::Memory, Controller::Cpu]);
        assert!(!set.has(Controller::Pids));
        assert!(Set::named(["cpuacct", "rw"]).is_empty());
        assert_eq!(set.without(Set::named(["cpu"])), Set::named(["memory"]));
    }
}

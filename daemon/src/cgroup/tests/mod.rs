//! Tests on the real kernel: limits are hit. The same ones for both versions:
//! `root_only::v1_only` where the controllers are version 1's, and `v2_only`
//! in the directory that `NOXRUNNER_TEST_CGROUP` names, which is delegated to
//! the user and hands memory, cpu and pids down.

mod costs;
mod ends;
mod fixture;
mod limits;
mod places;
mod refused;
mod stays;

use fixture::Fixture;

/// Each of these functions of a fixture, as a test for one version.
macro_rules! cases {
    ($fixture:path: $($module:ident::$test:ident),+ $(,)?) => {
        $(#[test]
        fn $test() {
            super::$module::$test(&$fixture());
        })+
    };
}

/// What both versions do.
macro_rules! common {
    ($fixture:path) => {
        use super::Fixture;

        cases! {
            $fixture:
            limits::memory_is_held_and_kills_are_counted,
            limits::processes_are_held_and_refusals_are_counted,
            limits::cpu_is_held,
            limits::limits_can_be_changed,
            limits::usage_is_counted,
            limits::odd_limits_are_taken,
            ends::everything_is_killed_whatever_it_does,
            ends::a_fork_bomb_is_killed_and_the_group_works_on,
            ends::the_slowest_group_is_killed_at_once,
            ends::a_group_with_somebody_in_it_is_not_removed,
            ends::nothing_is_left,
            ends::dropping_a_group_removes_it,
            ends::a_dead_process_cannot_be_added,
            stays::leftovers_of_a_dead_daemon_are_removed,
            stays::leftovers_elsewhere_are_removed,
            stays::another_daemons_groups_are_let_be,
        }

        #[test]
        #[ignore = "prints what things cost"]
        fn costs() {
            super::costs::of_each_step(&$fixture());
        }
    };
}

mod root_only {
    use super::{Fixture, costs, ends, limits, refused, stays};

    mod v1_only {

        common!(Fixture::v1);
        cases! {
            Fixture::v1:
            limits::v1_refuses_less_memory_than_is_in_use,
            limits::v1_has_no_watches,
            refused::v1_gives_nothing_to_an_ordinary_user,
            refused::v1_that_is_mounted_read_only_says_so,
        }
    }
}

mod v2_only {
    common!(Fixture::v2);
    cases! {
        Fixture::v2:
        limits::v2_watches_wake,
        stays::v2_a_group_with_strangers_is_refused,
        stays::v2_our_other_processes_move_along,
    }

    mod root_only {
        #[test]
        fn the_root_keeps_its_processes() {
            super::super::stays::v2_the_root_keeps_its_processes();
        }
    }
}

//! Limits that are hit: each ends as its documented cause, the daemon and the neighbours go on
//! meanwhile, and nothing is left.
//!
//! | file | what is used up |
//! |---|---|
//! | `forks` | processes and threads |
//! | `memory` | memory, of every kind that there is |
//! | `output` | what a command prints |
//! | `storage` | bytes and files on disk |
//! | `descriptors` | open files |
//! | `cpu` | processor time |
//! | `answers` | nothing: what the answers say of limits, and what is refused |
//! | `renewals` | nothing: limits that change, and that outlive the daemon |
//!
//! The same bodies run on each kind of machine, which is an [`Arm`]: `root_only::v1_only` where the
//! controllers are version 1's, `v2_only` in the directory that `NOXRUNNER_TEST_CGROUP` names, and
//! `without_groups` for everybody.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

mod answers;
mod arm;
mod cpu;
mod descriptors;
mod forks;
mod memory;
mod neighbours;
mod output;
mod renewals;
mod storage;

/// Each of these functions of an arm, as a test.
macro_rules! cases {
    ($arm:ident => $($module:ident::$test:ident),+ $(,)?) => {
        $(#[test]
        fn $test() {
            crate::$module::$test(crate::arm::Arm::$arm);
        })+
    };
}

/// What every arm does.
macro_rules! common {
    ($arm:ident) => {
        cases! {
            $arm =>
            answers::each_limit_says_what_holds_it,
            answers::limits_that_hold_nothing_are_refused,
            answers::whoever_runs_goes_first_and_leaves_no_core,
            memory::shared_memory_has_a_size_of_its_own,
            renewals::limits_outlive_the_daemon,
            storage::one_file_is_held_by_the_kernel,
        }

        /// What loads the whole machine.
        mod heavy {
            cases! {
                $arm =>
                forks::pipes_that_fork_with_a_limit,
                forks::sessions_that_fork_with_a_limit,
                forks::threads_and_forks_with_a_limit,
                forks::pipes_that_fork_with_defaults,
                memory::in_one_process,
                memory::in_eight_processes,
                storage::in_the_workspace,
                storage::in_the_home,
                storage::in_the_temporary_directory,
                storage::a_hundred_thousand_files,
            }
        }
    };
}

/// What control groups of neither version have a part in, so that two arms will do: much data, where the
/// third has emulated processors.
macro_rules! by_hand {
    ($arm:ident) => {
        cases! {
            $arm =>
            descriptors::a_process_has_so_many_and_no_more,
            output::much_output_is_counted_and_dropped,
            output::a_policy_ends_it,
        }
    };
}

/// What control groups do.
macro_rules! with_groups {
    ($arm:ident) => {
        common!($arm);
        cases! {
            $arm =>
            cpu::a_quota_holds,
            forks::a_full_sandbox_starts_nothing_more,
            memory::in_a_file_that_is_in_memory_alone,
            renewals::a_change_holds_at_once,
            renewals::less_memory_than_is_in_use,
            renewals::a_killed_daemon_leaves_no_group,
        }
    };
}

mod root_only {
    mod v1_only {
        with_groups!(V1);
        by_hand!(V1);
    }

    #[test]
    fn a_disk_that_is_nearly_full() {
        crate::storage::a_disk_that_is_nearly_full();
    }
}

mod v2_only {
    with_groups!(V2);
}

mod without_groups {
    common!(Bare);
    by_hand!(Bare);
    cases! {
        Bare =>
        cpu::nobody_holds_it_without_groups,
        descriptors::what_is_queued_in_sockets_leaves_others_theirs,
        memory::what_no_process_shows_is_refused,
    }

    mod tiers {
        cases! { Bare => forks::without_a_namespace }
    }
}

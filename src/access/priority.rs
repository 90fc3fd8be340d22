//! Threads that make way: hashing a PIN may take the machine's cores only while nobody else needs
//! them, so that many log-ins at once do not hold up those who are served.
//!
//! A lower nice value is not enough: the scheduler lets a running thread finish its slice of some
//! milliseconds before one that woke up, whatever their weights, and a request wakes five threads
//! in turn. A thread of the policy `SCHED_IDLE` is put aside at once (`sched(7)`).

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// Puts the calling thread behind all others of this machine. Where the system refuses, it keeps
/// the priority it has.
pub(in crate::access) fn make_way() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let refused = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    if let Err(error) = refused {
        tracing::debug!(?error, "the priority of a hashing thread stays as it is");
    }
}

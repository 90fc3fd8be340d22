//! A clock that wakes to the microsecond, on the thread that asks: tokio's own ticks in
//! milliseconds, and a thread of its own would wake the one that asks each time.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

pub(crate) struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, and asks for what an OwnedFd promises"
        )]
        AsyncFd::new(timer).map(Self)
    }

    pub(crate) async fn sleep_until(&mut self, moment: Instant) -> io::Result<()> {
        let span = moment.saturating_duration_since(Instant::now());
        if span.is_zero() {
            // Late: others go on all the same.
            tokio::task::yield_now().await;
            return Ok(());
        }
        let timer = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: timespec(span),
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &timer)?;
        loop {
            let mut rung = self.0.readable().await?;
            let read = |timer: &AsyncFd<OwnedFd>| {
                let count = rustix::io::read(timer, &mut [0; 8])?;
                Ok(count)
            };
            // Else it was rung for an earlier moment.
            if let Ok(read) = rung.try_io(read) {
                return read.map(drop);
            }
        }
    }
}

fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: span.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    }
}

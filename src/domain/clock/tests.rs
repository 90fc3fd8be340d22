use proptest::prelude::*;

use super::*;

const POLICY: ClockPolicy = ClockPolicy {
    jump_ms: 60_000,
    ahead_at_start_ms: 7 * DAY_MS as u64,
};
const DAY_MS: i64 = 86_400_000;
const NOON: i64 = 1_767_268_800_000;

/// A machine whose two clocks a test moves.
struct Machine {
    clock: TrustedClock,
    wall_ms: i64,
    boot_ms: i64,
}

impl Machine {
    fn new() -> Self {
        let (wall_ms, boot_ms) = (NOON, 5_000_000);
        let now = reading(wall_ms, boot_ms);
        Self {
            clock: TrustedClock::begin(None, "one", POLICY, now),
            wall_ms,
            boot_ms,
        }
    }

    fn reading(&self) -> ClockReading {
        reading(self.wall_ms, self.boot_ms)
    }

    /// Time goes by, looked at each second.
    fn pass(&mut self, ms: i64) -> Option<ClockGuard> {
        for _ in 0..ms / 1_000 {
            self.wall_ms += 1_000;
            self.boot_ms += 1_000;
            self.clock.look(POLICY, self.reading());
        }
        self.clock.guard()
    }

    /// Somebody sets the wall clock.
    fn step(&mut self, ms: i64) -> Option<ClockGuard> {
        self.wall_ms += ms;
        self.clock.look(POLICY, self.reading());
        self.clock.guard()
    }

    fn trusted(&self) -> i64 {
        self.clock.at(self.boot_ms).unix_ms()
    }

    fn restarted(&self, boot_id: &str) -> TrustedClock {
        let mark = self.clock.mark(self.boot_ms);
        let stored = ClockMark {
            corrections: ClockMark::parse_corrections(&mark.corrections_text()),
            ..mark
        };
        TrustedClock::begin(Some(stored), boot_id, POLICY, self.reading())
    }
}

fn reading(wall_ms: i64, boot_ms: i64) -> ClockReading {
    ClockReading {
        wall: Timestamp::from_unix_ms(wall_ms),
        boot_ms,
    }
}

const JUMPED: Option<ClockGuard> = Some(ClockGuard::Jumped);

#[test]
fn steps_of_an_hour_are_followed_while_they_are_small_together_and_no_further() {
    let mut machine = Machine::new();
    for step in [20_000, -15_000, 24_000] {
        assert_eq!(machine.step(step), None);
        machine.pass(60_000);
        assert_eq!(machine.trusted(), machine.wall_ms);
    }
    // 59 s of 60 are spent, in both directions together.
    assert_eq!(machine.step(2_000), JUMPED);
    assert_eq!(machine.trusted(), machine.wall_ms - 2_000);
    assert_eq!(machine.step(-2_000), JUMPED);
    assert_eq!(machine.pass(61_000), None);
    machine.pass(3_600_000);
    assert_eq!(machine.step(60_000), None);
    assert_eq!(machine.trusted(), machine.wall_ms);
}

#[test]
fn a_clock_that_is_a_month_ahead_for_three_seconds_is_never_believed_and_forgiven_after_a_minute() {
    let mut machine = Machine::new();
    assert_eq!(machine.step(32 * DAY_MS), JUMPED);
    assert_eq!(machine.pass(3_000), JUMPED);
    assert_eq!(machine.step(-32 * DAY_MS), JUMPED);
    assert_eq!(machine.pass(59_000), JUMPED);
    assert_eq!(machine.trusted(), machine.wall_ms);
    assert_eq!(machine.pass(2_000), None);
    assert_eq!(machine.trusted(), machine.wall_ms);
}

#[test]
fn a_wall_clock_that_creeps_through_guards_gets_no_more_than_the_hours_corrections() {
    let mut machine = Machine::new();
    let began = machine.trusted();
    for _ in 0..30 {
        machine.step(50_000);
        machine.pass(120_000);
    }
    let counted = 30 * 120_000;
    assert!(machine.trusted() - began <= counted + 60_000);
}

#[test]
fn after_a_believed_step_back_time_runs_at_half_speed_until_the_wall_has_caught_up() {
    let mut machine = Machine::new();
    let before = machine.trusted();
    assert_eq!(machine.step(-30_000), None);
    assert_eq!(machine.trusted(), before);
    machine.pass(20_000);
    assert_eq!(machine.trusted(), before + 10_000);
    machine.pass(40_000);
    assert_eq!(machine.trusted(), machine.wall_ms);
}

#[test]
fn a_start_in_the_same_boot_is_judged_as_if_the_bank_had_run_on() {
    let mut machine = Machine::new();
    machine.step(40_000);
    machine.pass(2_000);
    assert_eq!(machine.restarted("one").guard(), None);
    machine.wall_ms += 30_000;
    // With what was believed before the stop it is too much.
    assert_eq!(machine.restarted("one").guard(), Some(ClockGuard::Jumped));
    machine.wall_ms += 400 * DAY_MS;
    let again = machine.restarted("one");
    assert_eq!(again.guard(), Some(ClockGuard::Jumped));
    assert_eq!(again.at(machine.boot_ms).unix_ms(), machine.trusted());
    // A guard that stood still stands, though the wall is right for the moment.
    let mut machine = Machine::new();
    machine.step(DAY_MS);
    machine.wall_ms -= DAY_MS;
    assert_eq!(machine.restarted("one").guard(), Some(ClockGuard::Jumped));
}

#[test]
fn a_start_in_another_boot_believes_a_wall_that_is_near_enough() {
    let mut machine = Machine::new();
    machine.pass(10_000);
    let mark = machine.clock.mark(machine.boot_ms);
    let start = |wall_ms: i64| {
        let now = reading(wall_ms, 7);
        let clock = TrustedClock::begin(Some(mark.clone()), "two", POLICY, now);
        (clock.guard(), clock.at(7).unix_ms() - machine.wall_ms)
    };
    let wall = machine.wall_ms;
    assert_eq!(start(wall + 7 * DAY_MS), (None, 7 * DAY_MS));
    assert_eq!(start(wall - 60_000), (None, 0));
    assert_eq!(start(wall - 60_001), (Some(ClockGuard::Behind), 0));
    assert_eq!(start(wall + 7 * DAY_MS + 1), (Some(ClockGuard::Apart), 0));
    assert_eq!(start(0), (Some(ClockGuard::Behind), 0));
}

#[test]
fn a_guard_of_a_start_ends_once_the_wall_stood_where_a_start_would_believe_it() {
    for wrong in [-3 * DAY_MS, 300 * DAY_MS] {
        let mut machine = Machine::new();
        machine.wall_ms += wrong;
        machine.clock = machine.restarted("two");
        machine.pass(600_000);
        assert!(machine.clock.guard().is_some());
        machine.wall_ms += DAY_MS - wrong;
        assert_eq!(machine.pass(61_000), None);
        assert_eq!(machine.trusted(), machine.wall_ms);
    }
}

#[test]
fn what_ends_a_guard_of_a_start_is_no_correction_of_the_hours() {
    let mut machine = Machine::new();
    machine.wall_ms -= 3 * DAY_MS;
    machine.clock = machine.restarted("two");
    machine.wall_ms += 4 * DAY_MS;
    assert_eq!(machine.pass(61_000), None);
    assert_eq!(machine.step(1_000), None);
    assert_eq!(machine.trusted(), machine.wall_ms);
    assert_eq!(machine.step(60_000), JUMPED);
}

const APART: Option<ClockGuard> = Some(ClockGuard::Apart);

/// A machine whose store kept no clock, and whose newest stamp is so far ahead of the wall.
fn begun_from_stamps(ahead_ms: i64) -> Machine {
    let mut machine = Machine::new();
    let newest = Timestamp::from_unix_ms(machine.wall_ms + ahead_ms);
    let mark = ClockMark::of_stamps(newest);
    machine.clock = TrustedClock::begin(Some(mark), "one", POLICY, machine.reading());
    machine
}

#[test]
fn stamps_alone_are_believed_no_more_than_the_wall_and_the_earlier_of_both_is_taken() {
    for (ahead_ms, guard) in [
        (60_000, None),
        (-7 * DAY_MS, None),
        (60_001, APART),
        (400 * DAY_MS, APART),
        (-7 * DAY_MS - 1, APART),
    ] {
        let machine = begun_from_stamps(ahead_ms);
        assert_eq!(machine.clock.guard(), guard, "{ahead_ms}");
        if guard.is_some() {
            assert_eq!(machine.trusted(), machine.wall_ms + ahead_ms.min(0));
            let stamped = machine.clock.stamped_at(machine.boot_ms).unix_ms();
            assert_eq!(stamped, machine.wall_ms + ahead_ms);
        }
    }
}

#[test]
fn a_start_that_cannot_tell_the_time_is_followed_by_others_that_cannot_until_staff_say() {
    for ahead_ms in [30 * DAY_MS, -30 * DAY_MS] {
        let mut machine = begun_from_stamps(ahead_ms);
        assert_eq!(machine.pass(120_000), APART);
        let (at, stamped) = (
            machine.trusted(),
            machine.clock.stamped_at(machine.boot_ms).unix_ms(),
        );
        // Neither in this boot nor in another does the stamp begin to rule, though the wall be wrong
        // to the other side.
        for (boot_id, wrong_ms) in [("one", 0), ("two", 0), ("three", 3 * ahead_ms), ("four", 0)] {
            machine.wall_ms += wrong_ms;
            machine.clock = machine.restarted(boot_id);
            machine.wall_ms -= wrong_ms;
            assert_eq!(machine.clock.guard(), APART, "{boot_id}");
        }
        assert_eq!(machine.trusted(), at);
        assert_eq!(machine.clock.stamped_at(machine.boot_ms).unix_ms(), stamped);
        machine.clock.accept(machine.reading());
        assert_eq!(machine.clock.guard(), None);
        let mark = machine.clock.mark(machine.boot_ms);
        assert_eq!(mark.trusted.unix_ms(), machine.wall_ms);
    }
}

#[test]
fn a_wall_that_was_behind_the_stamps_of_a_store_is_believed_once_it_was_set_right() {
    let mut machine = begun_from_stamps(30 * DAY_MS);
    machine.step(31 * DAY_MS);
    assert_eq!(machine.pass(59_000), APART);
    assert_eq!(machine.pass(2_000), None);
    assert_eq!(machine.trusted(), machine.wall_ms);
    assert_eq!(machine.step(1_000), None);
}

#[test]
fn a_start_knows_what_it_went_on_from_where_it_believed_a_wall_well_ahead() {
    let mut machine = Machine::new();
    let last = Timestamp::from_unix_ms(machine.wall_ms);
    machine.wall_ms += 60_000;
    assert_eq!(machine.restarted("two").leapt_from(), None);
    machine.wall_ms += 1;
    assert_eq!(machine.restarted("two").leapt_from(), Some(last));
    assert_eq!(machine.restarted("one").leapt_from(), None);
    machine.wall_ms += 7 * DAY_MS;
    assert_eq!(machine.restarted("two").leapt_from(), None);
}

#[test]
fn staff_accept_any_wall_and_only_that_sets_time_back() {
    let mut machine = Machine::new();
    machine.step(-90 * DAY_MS);
    assert!(machine.clock.guard().is_some());
    machine.clock.accept(machine.reading());
    assert_eq!(
        (machine.clock.guard(), machine.trusted()),
        (None, machine.wall_ms)
    );
}

#[test]
fn what_a_store_keeps_of_a_clock_reads_back_and_rubbish_does_not_stop_it() {
    let mut machine = Machine::new();
    machine.step(5_000);
    machine.pass(70_000);
    machine.step(-400);
    let mark = machine.clock.mark(machine.boot_ms);
    assert_eq!(mark.corrections.len(), 2);
    let text = mark.corrections_text();
    assert_eq!(ClockMark::parse_corrections(&text), mark.corrections);
    assert_eq!(ClockMark::parse_corrections("x,1:y,7:8,"), [(7, 8)]);
}

proptest! {
    #[test]
    fn time_never_runs_backwards_and_never_gains_more_than_is_believed(
        steps in prop::collection::vec((-200_000_i64..200_000, 0_i64..400_000, any::<bool>()), 1..60)
    ) {
        let mut machine = Machine::new();
        let (mut last, began) = (machine.trusted(), machine.trusted());
        let mut passed = 0;
        for (step, pass, restart) in steps {
            machine.step(step);
            prop_assert!(machine.trusted() >= last);
            machine.pass(pass);
            passed += pass / 1_000 * 1_000;
            if restart {
                machine.clock = machine.restarted("one");
            }
            prop_assert!(machine.trusted() >= last);
            last = machine.trusted();
            let hours = i64::from(i32::try_from(passed / HOUR_MS).unwrap()) + 1;
            prop_assert!(last - began <= passed + 2 * hours * 60_000);
            prop_assert!(machine.clock.corrections.len() <= 61);
        }
    }
}

//! One of the two stores, with what its customers hold; what it answers, as text to be compared.

use super::super::kitchen::{hash, hasher, wait};
use super::step::{ACCOUNTS, Money, Office as Staff, PINS, Restart, Step};
use crate::access::lockout::LockoutPolicy;
use crate::access::pin::PinVerified;
use crate::domain::entry::CHAIN_START;
use crate::domain::{AccountNumber, Currency, EntryNumber, Pin, Refusal, Timestamp};
use crate::store::{
    Act, Audit, Claim, Claimed, Context, Digest, Done, LogHead, NewAccount, Office, Receipt,
    RecordsAsked, Store, StoreError, Terms, TryCounted,
};

/// Noon of 2026-01-01, UTC.
pub(super) const BEGINNING: Timestamp = Timestamp::from_unix_ms(1_767_268_800_000);

pub(super) fn currency() -> Currency {
    "USD".parse().expect("a currency")
}

/// The bank's terms, some of them strict.
pub(super) fn terms(choice: u8) -> Terms {
    let lockout = |tries, lock_ms| LockoutPolicy { tries, lock_ms };
    let usual = Terms {
        withdrawal_limit: 100_000,
        daily_withdrawal_limit: 200_000,
        hold_timeout_ms: 120_000,
        lockout: lockout(3, 86_400_000),
        try_rows_max: 1_000,
        keys_kept_ms: crate::store::KEY_KEPT_MS,
        open_holds: crate::domain::OpenHolds {
            of_account: 20,
            of_terminal: 20,
        },
    };
    match choice {
        1 => Terms {
            try_rows_max: 1,
            ..usual
        },
        2 => Terms {
            lockout: lockout(2, 0),
            ..usual
        },
        3 => Terms {
            hold_timeout_ms: 1,
            ..usual
        },
        4 => Terms {
            withdrawal_limit: 0,
            daily_withdrawal_limit: 0,
            ..usual
        },
        5 => Terms {
            withdrawal_limit: i64::MAX,
            daily_withdrawal_limit: i64::MAX,
            hold_timeout_ms: 1_000_000_000,
            ..usual
        },
        _ => usual,
    }
}

/// How a store is opened again.
pub(super) type Reopen<S> = Box<dyn FnMut(S, Restart, Context) -> S>;

/// A store, with what its customers hold.
pub(super) struct Bank<S> {
    store: Option<S>,
    reopen: Reopen<S>,
    claims: [Option<Claim>; 3],
    stale: [Option<Claim>; 3],
    connections: u64,
}

type Answer = Result<String, StoreError>;

impl<S: Store> Bank<S> {
    pub(super) fn new(store: S, reopen: Reopen<S>) -> Self {
        Self {
            store: Some(store),
            reopen,
            claims: [const { None }; 3],
            stale: [const { None }; 3],
            connections: 0,
        }
    }

    fn store(&self) -> &S {
        self.store.as_ref().expect("an open store")
    }

    /// Whether the account's customer is logged in.
    pub(super) fn has_claim(&self, who: usize) -> bool {
        self.claims[who].is_some()
    }

    /// The account's balance; 0 where there is no such account.
    pub(super) fn balance(&self, who: usize, context: &Context) -> i64 {
        match self.act(Act::Show(number(who)), context) {
            Ok(Done::Account(report)) => report.balance,
            _ => 0,
        }
    }

    /// What becomes of a step.
    pub(super) fn run(&mut self, step: &Step, context: &Context) -> String {
        match self.answer(step, context) {
            Ok(answer) => answer,
            // Each store has its own words for what broke.
            Err(StoreError::Broken(_)) => "broken".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn answer(&mut self, step: &Step, context: &Context) -> Answer {
        match step {
            // Of the run, not of the store.
            Step::Advance(_) | Step::At(_) | Step::Terms(_) => Ok(String::new()),
            Step::LogIn(who, pin) => self.log_in(*who, pin, context),
            Step::LogOut(who) => {
                if let Some(claim) = self.claims[*who].take() {
                    self.store().release(&claim);
                    self.stale[*who] = Some(claim);
                }
                Ok(self.store().seats().len().to_string())
            }
            Step::Money(money) => wait(self.money(money, context)),
            Step::Burst(calls) => self.burst(calls, context),
            Step::Balance(who) => self.by_claim(*who, |store, claim| {
                let balance = wait(store.balance(claim, context.clone()));
                balance.map(|balance| format!("{balance:?}"))
            }),
            Step::History(who, limit, before) => self.by_claim(*who, |store, claim| {
                let before = before.and_then(EntryNumber::new);
                let lines = wait(store.history(claim, *limit, before));
                lines.map(|lines| format!("{lines:?}"))
            }),
            Step::ChangePin(who, pin, new) => self.change_pin(*who, pin, *new, context),
            Step::Sweep => {
                let swept = wait(self.store().sweep(context.clone()));
                swept.map(|swept| format!("{swept:?}"))
            }
            Step::Office(act) => self.staff(act, context),
            Step::Look(who) => self.look(*who, context),
            Step::Verify => Ok(format!("{:?}", self.verify(None, context))),
            Step::Restart(restart) => Ok(self.restart(*restart, context)),
        }
    }

    fn by_claim(&self, who: usize, ask: impl FnOnce(&S, &Claim) -> Answer) -> Answer {
        match &self.claims[who] {
            Some(claim) => ask(self.store(), claim),
            None => Ok("nobody".to_owned()),
        }
    }

    /// Orders and settlements.
    async fn money(&self, money: &Money, context: &Context) -> Answer {
        let told = |answer: Result<Result<Receipt, Refusal>, StoreError>| {
            answer.map(|answer| format!("{answer:?}"))
        };
        match money {
            Money::Order { who, stale, order } => {
                let claims = if *stale { &self.stale } else { &self.claims };
                let Some(claim) = &claims[*who] else {
                    return Ok("nobody".to_owned());
                };
                let order = self.store().order(claim, order.clone(), context.clone());
                told(order.await)
            }
            Money::Settle {
                claimed,
                settlement,
            } => {
                let claim = claimed.and_then(|who| self.claims[who].as_ref());
                let settlement = settlement.clone();
                told(
                    self.store()
                        .settle(claim, settlement, context.clone())
                        .await,
                )
            }
        }
    }

    /// Calls that are all on their way before the first is answered, in this order.
    fn burst(&self, calls: &[Money], context: &Context) -> Answer {
        let told = |answer: Answer| answer.unwrap_or_else(|error| format!("{error:?}"));
        let call = |index: usize| async move {
            match calls.get(index) {
                Some(money) => told(self.money(money, context).await),
                None => String::new(),
            }
        };
        let answers = wait(async {
            let (one, two, three, four) = tokio::join!(biased; call(0), call(1), call(2), call(3));
            [one, two, three, four]
        });
        Ok(answers.join("\n"))
    }

    /// A counted try and, where the PIN is right, the proof of it.
    fn prove(&self, who: usize, pin: &str, context: &Context) -> Result<PinVerified, Answer> {
        let counted = wait(self.store().count_try(number(who), context.clone()));
        match counted.map_err(Err)? {
            TryCounted::Check(ticket) => {
                let last = ticket.is_last();
                let pin = Pin::parse(pin).expect("a PIN");
                let place = hasher().place().expect("a place");
                let checked = wait(place.verify(ticket, pin)).expect("a checked PIN");
                checked.ok_or_else(|| Ok(format!("no match, {last}")))
            }
            refused => Err(Ok(format!("{refused:?}"))),
        }
    }

    fn log_in(&mut self, who: usize, pin: &str, context: &Context) -> Answer {
        let proof = match self.prove(who, pin, context) {
            Ok(proof) => proof,
            Err(answer) => return answer,
        };
        self.connections += 1;
        let claimed = self
            .store()
            .claim(&proof, self.connections, context.clone());
        Ok(match wait(claimed)? {
            Claimed::Seated(seated) => {
                let told = format!("{:?} {}", seated.balances, seated.must_change_pin);
                self.claims[who] = Some(seated.claim);
                told
            }
            other => format!("{other:?}"),
        })
    }

    fn change_pin(&self, who: usize, pin: &str, new: Option<&str>, context: &Context) -> Answer {
        self.by_claim(who, |store, claim| {
            let proof = match self.prove(who, pin, context) {
                Ok(proof) => proof,
                Err(answer) => return answer,
            };
            let changed = wait(store.change_pin(claim, &proof, new.map(hash), context.clone()));
            changed.map(|changed| format!("{changed:?}"))
        })
    }

    fn staff(&self, staff: &Staff, context: &Context) -> Answer {
        let act = match *staff {
            Staff::Open(who, balance) => Act::Open(vec![account(who, balance)]),
            Staff::Close(who) => Act::Close(number(who)),
            Staff::Lock(who, locked) => Act::Lock(number(who), locked),
            Staff::SetPin(who, pin, one_time) => Act::SetPin {
                number: number(who),
                hash: hash(pin),
                one_time_until: one_time.then(|| context.now.plus_ms(3_600_000)),
                accept_row: false,
            },
            Staff::Limit(who, withdrawal, daily) => Act::Limit {
                number: number(who),
                withdrawal,
                daily,
            },
            Staff::Adjust(who, amount) => Act::Adjust {
                number: number(who),
                amount,
                reason: "because".to_owned(),
            },
            Staff::Terminal(disabled) => Act::Terminal {
                name: "t-2".parse().expect("a terminal's name"),
                disabled,
            },
        };
        self.act(act, context).map(|done| format!("{done:?}"))
    }

    fn act(&self, act: Act, context: &Context) -> Result<Done, StoreError> {
        wait(
            self.store()
                .office(&Office::of("the fuzzer"), act, context.clone()),
        )
    }

    /// Everything that staff can look at.
    fn look(&self, who: usize, context: &Context) -> Answer {
        let statement = Act::Statement {
            number: number(who),
            after: 1,
            from: Some(BEGINNING.plus_ms(3_600_000)),
            to: None,
            limit: 7,
        };
        let list = Act::List {
            after: None,
            limit: 10,
        };
        let seats = self.store().seats().into_iter();
        // Fences begin anew with the embedded store's process.
        let mut told: String = seats
            .map(|seat| {
                let since = seat.since;
                format!(
                    "{} {} {} {since}\n",
                    seat.account, seat.terminal, seat.connection
                )
            })
            .collect();
        for act in [
            Act::Show(number(who)),
            statement,
            list,
            Act::Terminals,
            Act::DemoAccounts,
            Act::LateCaptures { limit: 5 },
            Act::Peppers,
            Act::Records(RecordsAsked {
                limit: 20,
                ..RecordsAsked::default()
            }),
        ] {
            let mut done = self.act(act, context)?;
            // A row of a terminal takes the pepper of its MAC, which the model does not make.
            if let Done::Peppers(uses) = &mut done {
                uses.retain(|used| used.accounts > 0);
            }
            told += &format!("{done:?}\n");
        }
        Ok(told)
    }

    /// The audit, as text, and the digest of the heads.
    ///
    /// # Panics
    /// Where it finds a fault.
    pub(super) fn verify(&self, before: Option<Digest>, context: &Context) -> (String, Digest) {
        // Beyond all stamps: steps set the clock back, which a bank's own never is.
        let context = Context {
            now: Timestamp::from_unix_ms(i64::MAX / 2),
            ..context.clone()
        };
        match self.act(Act::Verify(before), &context) {
            Ok(Done::Audit(audit)) => {
                assert_eq!(audit.faults, Vec::<String>::new(), "a fault in the books");
                // Both stores write the same rows; only one has MACs of them.
                let rows = LogHead {
                    hash: CHAIN_START,
                    ..audit.rows
                };
                let head = audit.head;
                (format!("{:?}", Audit { rows, ..*audit }), head)
            }
            other => panic!("no audit: {other:?}"),
        }
    }

    /// All sessions are over, and nothing else is lost.
    fn restart(&mut self, restart: Restart, context: &Context) -> String {
        let claims = std::mem::replace(&mut self.claims, [const { None }; 3]);
        for claim in claims.into_iter().flatten() {
            self.store().release(&claim);
        }
        self.stale = [const { None }; 3];
        let store = self.store.take().expect("an open store");
        self.store = Some((self.reopen)(store, restart, context.clone()));
        self.verify(None, context).0
    }
}

/// An account to be opened; those without money have a public PIN.
fn account(who: usize, balance: i64) -> NewAccount {
    NewAccount {
        number: number(who),
        hash: hash(PINS[0]),
        balance,
        demo: balance == 0,
    }
}

fn number(who: usize) -> AccountNumber {
    ACCOUNTS[who].parse().expect("an account's number")
}

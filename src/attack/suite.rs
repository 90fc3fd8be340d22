//! One run: announced, looked at from outside, attacked probe by probe, reported.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::arena::{Admission, Arena, Block, Customer, NoLine, Sends};
use super::line::Heard;
use super::probe::{Family, Pace, Probe};
use super::report::{Outcome, Report};
use super::target::Target;
use super::verdict::{Finding, Judged};
use super::{Error, probe};
use crate::atm::TrustFiles;
use crate::domain::TerminalName;
use crate::limits;
use crate::surroundings::Surroundings;
use crate::wire::code::Code;

/// The name in made-up certificates where we have none of our own.
const SOME_TERMINAL: &str = "terminal-1";

/// What an attack is made of.
pub struct Plan {
    /// Whom; may be attacked.
    pub target: Target,
    /// The bank's CA, and the terminal's own certificate where there is one.
    pub trust: TrustFiles,
    /// A certificate that must be refused.
    pub refused: Option<TrustFiles>,
    /// An account to attack from inside.
    pub customer: Option<Customer>,
    /// The letters of numbers that are made up.
    pub block: Block,
    /// Names of families and probes; none is all.
    pub only: Vec<String>,
    /// Whether one minor unit may be moved there and back.
    pub moves_money: bool,
    /// How long all of it may take.
    pub budget: Duration,
    /// How long a silent target is waited for.
    pub patience: Duration,
    /// Connections open at once, at least [`limits::ATTACK_CONNECTIONS_MIN`].
    pub connections: usize,
}

/// An attack that is ready and has sent nothing yet.
pub struct Suite {
    arena: Arena,
    target: Target,
    probes: Vec<Probe>,
}

impl Suite {
    /// Reads the files and chooses the probes. Sends nothing.
    ///
    /// # Errors
    /// [`Error::Terminal`] where a file is not there or cannot be used, [`Error::NoProbe`].
    pub fn new(plan: Plan, chance: Arc<dyn Surroundings>) -> Result<Self, Error> {
        let probes = probe::chosen(&plan.only)?;
        let own = plan.trust.load()?;
        let bare = TrustFiles {
            identity: None,
            ..plan.trust.clone()
        }
        .load()?;
        let refused = plan.refused.map(|files| files.load()).transpose()?;
        let terminal = match &own.terminal {
            Some(name) => name.clone(),
            None => SOME_TERMINAL
                .parse()
                .unwrap_or_else(|_| TerminalName::anonymous()),
        };
        let address = plan.target.resolved().first().copied();
        let arena = Arena {
            address: address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
            name: plan.target.address().name(),
            own: own.config,
            bare: bare.config,
            terminal,
            has_certificate: plan.trust.identity.is_some(),
            refused: refused.map(|trust| trust.config),
            admission: Admission {
                own: false,
                nameless: false,
            },
            customer: plan.customer,
            block: plan.block,
            moves_money: plan.moves_money,
            patience: plan.patience,
            budget: plan.budget,
            connections: plan.connections,
            places: Arc::new(Semaphore::new(plan.connections)),
            sends: Sends::of(limits::ATTACK_SENDS_MAX),
            chance,
            tries: OnceCell::new(),
        };
        Ok(Self {
            arena,
            target: plan.target,
            probes,
        })
    }

    /// What it will do, for whoever reads it before it is done.
    #[must_use]
    pub fn announcement(&self) -> String {
        let arena = &self.arena;
        let places: Vec<String> = self
            .target
            .resolved()
            .iter()
            .map(ToString::to_string)
            .collect();
        let mut lines = vec![format!(
            "attacking {} ({}) with {} probes: at most {} s, {} connections at once, {} sends",
            self.target.address(),
            places.join(", "),
            self.probes.len(),
            arena.budget.as_secs(),
            arena.connections,
            limits::ATTACK_SENDS_MAX
        )];
        if self.guesses() {
            lines.push(format!(
            "wrong PINs are tried on numbers that are made up, {}-NNNNN, one or two dozen, which the \
             bank goes on counting; if that block has customers, choose another with --block",
            arena.block
            ));
        }
        if let Some(customer) = &arena.customer {
            lines.push(format!(
                "on {} at most one wrong PIN at a time, then the right one; {}",
                customer.account.masked(),
                if arena.moves_money {
                    "one minor unit is moved there and back"
                } else {
                    "no money is moved, one minor unit is held for a moment and released"
                }
            ));
        }
        if self.probes.iter().any(|probe| probe.pace == Pace::Loud) {
            lines.push(
                "at the end it floods: for about a minute the bank takes few log-ins from this \
                 terminal, and few connections from this address"
                    .to_owned(),
            );
        }
        lines.join("\n")
    }

    /// Whether wrong PINs are tried on numbers that are made up.
    fn guesses(&self) -> bool {
        self.probes.iter().any(|probe| match probe.family {
            Family::Guessing | Family::Flood => true,
            // How many wrong PINs a number has must be known before our own gets one.
            Family::Enumeration | Family::Order => self.arena.customer.is_some(),
            _ => false,
        })
    }

    /// Attacks, within the budget, and reports.
    ///
    /// # Errors
    /// [`Error::NoBank`] and [`Error::NotTheBank`] where there is nothing to attack.
    pub async fn run(mut self) -> Result<Report, Error> {
        let began = Instant::now();
        let budget = self.arena.budget;
        self.arena.admission = match timeout(budget, self.look()).await {
            Ok(admission) => admission?,
            Err(_) => return Err(self.no_bank("nobody answered within the budget".to_owned())),
        };
        let ends = began + self.arena.budget;
        let Self {
            arena,
            target,
            probes,
        } = self;
        let address = arena.address;
        let arena = Arc::new(arena);
        let outcomes = run_all(&arena, probes, ends).await;
        if outcomes.iter().any(|outcome| outcome.finding == over()) {
            forget(&arena).await;
        }
        Ok(Report {
            target: target.address().to_string(),
            address: address.to_string(),
            took: began.elapsed(),
            outcomes,
        })
    }

    /// Takes the first of the target's addresses where somebody listens.
    async fn find(&mut self) -> Result<(), Error> {
        let mut reasons = Vec::new();
        for address in self.target.resolved() {
            self.arena.address = *address;
            match self.arena.dial().await {
                Ok(_) => return Ok(()),
                Err(error) => reasons.push(format!("{address}: {}", error.words())),
            }
        }
        Err(self.no_bank(reasons.join("; ")))
    }

    fn no_bank(&self, reason: String) -> Error {
        let target = self.target.address().to_string();
        Error::NoBank { target, reason }
    }

    /// Who is let in. Whoever does not prove to be the bank is left alone.
    async fn look(&mut self) -> Result<Admission, Error> {
        self.find().await?;
        let own = self.knock(&self.arena.own).await?;
        let nameless = match self.arena.has_certificate {
            true => self.knock(&self.arena.bare).await?.is_none(),
            false => own.is_none(),
        };
        match own {
            Some(words) if self.arena.has_certificate => {
                Err(self.no_bank(format!("it does not serve this terminal: {words}")))
            }
            own => Ok(Admission {
                own: own.is_none(),
                nameless,
            }),
        }
    }

    /// A handshake and a `ping`: `None` where it is answered, else what happened instead.
    async fn knock(&self, config: &Arc<ClientConfig>) -> Result<Option<String>, Error> {
        let mut line = match self.arena.shake(config).await {
            Ok(line) => line,
            Err(NoLine::NotTheBank(reason)) => {
                let target = self.target.address().to_string();
                return Err(Error::NotTheBank { target, reason });
            }
            Err(NoLine::Refused(words) | NoLine::Lost(words)) => return Ok(Some(words)),
        };
        Ok(match line.ping().await {
            Ok(heard) if heard.is(Code::Done) => None,
            Ok(Heard::Answer(said)) => Some(format!("code {}", said.code())),
            Ok(heard) => Some(heard.to_string()),
            Err(found) => Some(found.seen),
        })
    }
}

/// Runs the probes at their paces and gives the outcomes in the probes' order.
async fn run_all(arena: &Arc<Arena>, probes: Vec<Probe>, ends: Instant) -> Vec<Outcome> {
    let mut done: Vec<(usize, Outcome)> = Vec::with_capacity(probes.len());
    let mut waiting = JoinSet::new();
    let of_pace = |pace| {
        let numbered = probes.iter().copied().enumerate();
        numbered.filter(move |(_, probe)| probe.pace == pace)
    };
    for (index, probe) in of_pace(Pace::Waits) {
        let arena = Arc::clone(arena);
        waiting.spawn(async move { (index, run_one(&arena, probe, ends).await) });
    }
    for (index, probe) in of_pace(Pace::Quick) {
        done.push((index, run_one(arena, probe, ends).await));
    }
    done.extend(waiting.join_all().await);
    for (index, probe) in of_pace(Pace::Loud) {
        done.push((index, run_one(arena, probe, ends).await));
    }
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

async fn run_one(arena: &Arena, probe: Probe, ends: Instant) -> Outcome {
    let began = Instant::now();
    let left = ends.saturating_duration_since(began);
    let judged: Judged = if left.is_zero() {
        Err(over())
    } else {
        timeout(left, (probe.run)(arena))
            .await
            .unwrap_or_else(|_| Err(over()))
    };
    Outcome {
        probe,
        finding: judged.unwrap_or_else(|early| early),
        took: began.elapsed(),
    }
}

/// A probe that was cut off may have left a wrong PIN behind; the right one makes the bank forget.
async fn forget(arena: &Arena) {
    let right = async {
        if let Ok((line, _)) = arena.logged_in().await {
            line.leave().await;
        }
    };
    // One wrong PIN does no harm either.
    let _ = timeout(limits::ATTACK_ANSWER_TIMEOUT, right).await;
}

fn over() -> Finding {
    Finding::skipped("the time was over: give a larger --budget")
}

//! Terminals that ask: in a closed loop, or when they are told to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::Run;
use crate::alarm::Alarm;
use crate::customer::Customer;
use crate::terminal::Terminal;

/// Handshakes and log-ins under way at once.
pub(crate) const AT_ONCE: usize = 64;
/// Requests that may be due to one terminal and not yet sent.
const DUE_MAX: usize = 65_536;
/// How long answers are waited for once no more is asked.
const ENDING: Duration = Duration::from_secs(30);

/// A terminal with its customer.
pub(crate) type Seated = (Terminal, Customer);

/// Waits until connection `number` may be made.
pub(crate) async fn ramp(run: &Run, began: Instant, number: usize) {
    if run.arguments.ramp > 0.0 {
        let after = Duration::from_secs_f64(number as f64 / run.arguments.ramp);
        tokio::time::sleep_until(began + after).await;
    }
}

/// Connects all terminals and logs their customers in.
pub(crate) async fn log_in(run: &Arc<Run>) -> Vec<Seated> {
    let (mut coming, mut seated) = (JoinSet::new(), Vec::new());
    let began = Instant::now();
    for number in 0..run.arguments.terminals {
        if coming.len() >= AT_ONCE {
            seated.push(coming.join_next().await.unwrap().unwrap());
        }
        ramp(run, began, number).await;
        let run = Arc::clone(run);
        coming.spawn(async move {
            let mut terminal = run.ways.connect(number).await.expect("a connection");
            let (account, pin) = run.bank.customer(number);
            let heard = terminal.log_in(&account, &pin).await.expect("a log-in");
            run.books.begins(number, heard.balance.unwrap_or(0));
            (terminal, Customer::new(number, run.arguments.seed))
        });
    }
    seated.extend(coming.join_all().await);
    seated
}

/// Has everybody ask until the run stops, and hears the last answers.
pub(crate) async fn serve(run: &Arc<Run>, seated: Vec<Seated>) -> Vec<Seated> {
    if seated.is_empty() {
        while !run.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let (mut asking, mut clocks) = (JoinSet::new(), Vec::new());
    for (terminal, customer) in seated {
        let run = Arc::clone(run);
        if run.arguments.rate.is_some() {
            let (tell, due) = mpsc::channel(DUE_MAX);
            clocks.push(tell);
            asking.spawn(when_due(run, terminal, customer, due));
        } else {
            asking.spawn(at_once(run, terminal, customer));
        }
    }
    let pacing = run
        .arguments
        .rate
        .map(|rate| tokio::spawn(pace(Arc::clone(run), rate, clocks)));
    let seated = asking.join_all().await;
    if let Some(pacing) = pacing
        && let Err(behind) = pacing.await.unwrap()
    {
        run.served().fault(behind.to_string());
    }
    seated
}

/// Closed loop: always `depth` requests on their way.
async fn at_once(run: Arc<Run>, mut terminal: Terminal, mut customer: Customer) -> Seated {
    let ended = async {
        loop {
            let goes_on = !run.stop.load(Ordering::Relaxed);
            let now = Instant::now();
            while goes_on && customer.waiting() < run.arguments.depth {
                customer.ask(&run, now, &mut terminal.out);
            }
            if customer.waiting() == 0 {
                return Ok(());
            }
            terminal.send().await?;
            hear(&run, &mut terminal, &mut customer).await?;
        }
    };
    let ended: io::Result<()> = ended.await;
    end(&run, &customer, ended);
    (terminal, customer)
}

/// Open loop: asks at each moment that it is told.
async fn when_due(
    run: Arc<Run>,
    mut terminal: Terminal,
    mut customer: Customer,
    mut due: mpsc::Receiver<Instant>,
) -> Seated {
    let ended = async {
        let mut moments = Vec::new();
        loop {
            let told = tokio::select! {
                biased;
                told = due.recv_many(&mut moments, DUE_MAX) => Some(told),
                heard = hear(&run, &mut terminal, &mut customer), if customer.waiting() > 0 => { heard?; None }
            };
            for moment in moments.drain(..) {
                customer.ask(&run, moment, &mut terminal.out);
            }
            terminal.send().await?;
            if told == Some(0) {
                break;
            }
        }
        while customer.waiting() > 0 {
            hear(&run, &mut terminal, &mut customer).await?;
        }
        Ok(())
    };
    let ended: io::Result<()> = ended.await;
    end(&run, &customer, ended);
    (terminal, customer)
}

fn end(run: &Run, customer: &Customer, ended: io::Result<()>) {
    if let Err(error) = ended {
        let waiting = customer.waiting();
        run.served()
            .fault(format!("{error}, {waiting} requests without an answer"));
    }
}

/// Hears what has come. Waits for something, which may be given up.
async fn hear(run: &Run, terminal: &mut Terminal, customer: &mut Customer) -> io::Result<()> {
    timeout(ENDING, terminal.receive()).await??;
    let now = Instant::now();
    while let Some(heard) = terminal.next()? {
        customer.hear(run, &heard, now);
    }
    Ok(())
}

/// Tells terminals in turn when to ask, until the run stops.
async fn pace(run: Arc<Run>, rate: f64, clocks: Vec<mpsc::Sender<Instant>>) -> io::Result<()> {
    let mut alarm = Alarm::new()?;
    let (began, mut sent) = (Instant::now(), 0_usize);
    while !run.stop.load(Ordering::Relaxed) {
        let moment = began + Duration::from_secs_f64(sent as f64 / rate);
        alarm.sleep_until(moment).await?;
        if clocks[sent % clocks.len()].try_send(moment).is_err() {
            run.stop.store(true, Ordering::Relaxed);
            let behind = "a terminal fell too far behind to be told more";
            return Err(io::Error::other(behind));
        }
        sent += 1;
    }
    Ok(())
}

//! A wire between the program and what it depends on, which can be cut, silenced and listened in on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the wire does with what comes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Carries it.
    Pass,
    /// Carries it, late.
    Late(Duration),
    /// Takes it, and lets nothing of it through: connections stay open.
    Silent,
    /// Breaks off whatever connection is begun.
    Refused,
}

/// What to do when the program has said something in particular.
#[derive(Debug, Clone, Copy)]
pub enum Trap {
    /// Break off before the other side hears of it.
    BeforeItArrives,
    /// Break off once the other side has answered, and let nobody hear the answer.
    OnceItIsAnswered,
}

struct Armed {
    words: &'static [u8],
    /// How many further messages are let through before: a statement is named before it is run.
    messages: usize,
    trap: Trap,
}

/// A wire to one address.
pub struct Wire {
    pub address: SocketAddr,
    /// Where it leads.
    target: watch::Sender<SocketAddr>,
    mode: watch::Sender<Mode>,
    /// How often it was cut.
    cuts: watch::Sender<u64>,
    /// How often what there was fell silent for good.
    hushed: watch::Sender<u64>,
    armed: Arc<Mutex<Option<Armed>>>,
}

impl Wire {
    /// Lays one.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, targets) = watch::channel(target);
        let (mode, modes) = watch::channel(Mode::Pass);
        let (cuts, heard) = watch::channel(0);
        let (hushed, hushes) = watch::channel(0);
        let armed = Arc::new(Mutex::new(None));
        tokio::spawn(accept(listener, targets, modes, heard, hushes, Arc::clone(&armed)));
        Self { address, target, mode, cuts, hushed, armed }
    }

    /// Leads what is begun from now on to another address.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Breaks off every connection that there is.
    pub fn cut(&self) {
        self.cuts.send_modify(|it| *it += 1);
    }

    /// Lets nothing through the connections that there are, ever again.
    pub fn hush(&self) {
        self.hushed.send_modify(|it| *it += 1);
    }

    /// Does something the next time that the program says these words, and so many messages after.
    pub fn trap(&self, words: &'static str, messages: usize, trap: Trap) {
        *self.armed.lock().unwrap() = Some(Armed { words: words.as_bytes(), messages, trap });
    }

    /// Takes the trap away.
    pub fn disarm(&self) {
        *self.armed.lock().unwrap() = None;
    }

    /// Whether the trap was met.
    pub fn was_met(&self) -> bool {
        self.armed.lock().unwrap().is_none()
    }
}

async fn accept(
    listener: TcpListener,
    targets: watch::Receiver<SocketAddr>,
    modes: watch::Receiver<Mode>,
    cuts: watch::Receiver<u64>,
    hushes: watch::Receiver<u64>,
    armed: Arc<Mutex<Option<Armed>>>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let (modes, armed) = (modes.clone(), Arc::clone(&armed));
        let target = *targets.borrow();
        let mut cuts = cuts.clone();
        cuts.mark_unchanged();
        let gate = Gate { modes, began_at: *hushes.borrow(), hushes: hushes.clone() };
        tokio::spawn(async move {
            if *gate.modes.borrow() == Mode::Refused {
                return reset(&client);
            }
            let Ok(server) = TcpStream::connect(target).await else { return };
            for side in [&client, &server] {
                side.set_nodelay(true).unwrap();
            }
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let (spoken, heard) = watch::channel(None);
            tokio::select! {
                () = speak(from_client, to_server, &gate, &armed, &spoken) => {}
                () = answer(from_server, &to_client, &gate, heard) => {}
                _ = cuts.changed() => {}
            }
            reset(to_client.as_ref());
        });
    }
}

/// Carries what the program says, and looks out for the words.
async fn speak(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    gate: &Gate,
    armed: &Mutex<Option<Armed>>,
    swallow: &watch::Sender<Option<()>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut countdown: Option<(usize, Trap)> = None;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let said = &buffer[..count];
        if countdown.is_none() {
            let mut armed = armed.lock().unwrap();
            if armed.as_ref().is_some_and(|it| said.windows(it.words.len()).any(|window| window == it.words)) {
                countdown = armed.take().map(|it| (it.messages, it.trap));
            }
        } else if let Some((messages, _)) = &mut countdown {
            *messages = messages.saturating_sub(1);
        }
        match countdown {
            Some((0, Trap::BeforeItArrives)) => return,
            Some((0, Trap::OnceItIsAnswered)) => drop(swallow.send_replace(Some(()))),
            Some(_) | None => {}
        }
        gate.opens().await;
        if to.write_all(said).await.is_err() {
            return;
        }
    }
}

/// Carries what is answered; the answer that is to be swallowed ends the connection.
async fn answer(mut from: OwnedReadHalf, to: &OwnedWriteHalf, gate: &Gate, swallow: watch::Receiver<Option<()>>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if swallow.borrow().is_some() {
            return;
        }
        gate.opens().await;
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            if to.writable().await.is_err() {
                return;
            }
            match to.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

/// What a connection's bytes wait at.
struct Gate {
    modes: watch::Receiver<Mode>,
    hushes: watch::Receiver<u64>,
    began_at: u64,
}

impl Gate {
    async fn opens(&self) {
        let mode = *self.modes.borrow();
        match mode {
            Mode::Pass | Mode::Refused => {}
            Mode::Late(by) => tokio::time::sleep(by).await,
            Mode::Silent => drop(self.modes.clone().wait_for(|it| *it != Mode::Silent).await.map(|it| *it)),
        }
        if *self.hushes.borrow() != self.began_at {
            std::future::pending::<()>().await;
        }
    }
}

/// Ends a connection without a farewell.
fn reset(stream: &TcpStream) {
    stream.set_zero_linger().ok();
}

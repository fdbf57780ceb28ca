//! A TCP proxy between the program and a server. It can delay, stall, refuse and reset connections, also triggered by
//! what the program sends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does with connections and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards bytes.
    Pass,
    /// Forwards bytes after a delay.
    Late(Duration),
    /// Keeps connections open but forwards nothing.
    Silent,
    /// Resets new connections.
    Refused,
}

/// When to reset a connection on which the program has sent certain bytes.
#[derive(Debug, Clone, Copy)]
pub enum Trap {
    /// Before they are forwarded to the server.
    BeforeItArrives,
    /// Once the server has responded, without forwarding the response.
    OnceItIsAnswered,
}

/// A trap that has not been triggered yet.
struct Armed {
    words: &'static [u8],
    /// Number of further messages to forward first: a statement is prepared in one message and run in the next.
    messages: usize,
    trap: Trap,
}

/// A proxy in front of one address.
pub struct TcpProxy {
    pub address: SocketAddr,
    /// The address to which new connections are forwarded.
    target: watch::Sender<SocketAddr>,
    mode: watch::Sender<Mode>,
    /// Number of calls of [`Self::cut`].
    cuts: watch::Sender<u64>,
    /// Number of calls of [`Self::hush`].
    hushed: watch::Sender<u64>,
    armed: Arc<Mutex<Option<Armed>>>,
}

impl TcpProxy {
    /// Starts a proxy in front of this address.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, targets) = watch::channel(target);
        let (mode, modes) = watch::channel(Mode::Pass);
        let (cuts, cut) = watch::channel(0);
        let (hushed, hushes) = watch::channel(0);
        let armed = Arc::new(Mutex::new(None));
        tokio::spawn(accept(listener, targets, modes, cut, hushes, Arc::clone(&armed)));
        Self { address, target, mode, cuts, hushed, armed }
    }

    /// Forwards new connections to another address.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Resets all open connections.
    pub fn cut(&self) {
        self.cuts.send_modify(|it| *it += 1);
    }

    /// Stalls all open connections permanently.
    pub fn hush(&self) {
        self.hushed.send_modify(|it| *it += 1);
    }

    /// Sets a trap for the next time that the program sends these words, and `messages` more messages.
    pub fn trap(&self, words: &'static str, messages: usize, trap: Trap) {
        *self.armed.lock().unwrap() = Some(Armed { words: words.as_bytes(), messages, trap });
    }

    /// Removes the trap.
    pub fn disarm(&self) {
        *self.armed.lock().unwrap() = None;
    }

    /// Whether the trap was triggered or removed.
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
            let (swallow, swallowing) = watch::channel(None);
            tokio::select! {
                () = forward_requests(from_client, to_server, &gate, &armed, &swallow) => {}
                () = forward_responses(from_server, &to_client, &gate, swallowing) => {}
                _ = cuts.changed() => {}
            }
            reset(to_client.as_ref());
        });
    }
}

/// Forwards what the program sends, and checks it for the words of the trap.
async fn forward_requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    gate: &Gate,
    armed: &Mutex<Option<Armed>>,
    swallow: &watch::Sender<Option<()>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut countdown: Option<(usize, Trap)> = None;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let sent = &buffer[..count];
        if countdown.is_none() {
            let mut armed = armed.lock().unwrap();
            if armed.as_ref().is_some_and(|it| sent.windows(it.words.len()).any(|window| window == it.words)) {
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
        if to.write_all(sent).await.is_err() {
            return;
        }
    }
}

/// Forwards what the server sends, up to the response to swallow, which ends the connection.
async fn forward_responses(
    mut from: OwnedReadHalf,
    to: &OwnedWriteHalf,
    gate: &Gate,
    swallow: watch::Receiver<Option<()>>,
) {
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

/// Delays or stalls the bytes of one connection.
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

/// Makes closing the connection send a RST.
fn reset(stream: &TcpStream) {
    stream.set_zero_linger().ok();
}

//! The wire between a broker and PostgreSQL, on which the test can see what the broker sends, and
//! kill it there.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// On which side of what the broker sends it is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Side {
    /// The server never gets it.
    Before,
    /// The server has done it, and the broker never hears of it.
    After,
}

/// A trap for a process: its end comes with the so manieth thing that it sends from now on.
#[derive(Debug)]
struct Trap {
    pid: Pid,
    number: u32,
    came: u32,
    side: Side,
}

/// Passes on what it gets, until a trap is sprung.
pub(crate) struct Wire {
    pub(crate) port: u16,
    trap: Arc<Mutex<Option<Trap>>>,
}

impl Wire {
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let trap = Arc::new(Mutex::new(None));
        let set = Arc::clone(&trap);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], server)));
                let Ok(server) = server.await else { continue };
                tokio::spawn(pass(client, server, Arc::clone(&set)));
            }
        });
        Self { port, trap }
    }

    /// Sets a trap for the thing with this number, from 1.
    pub(crate) fn set(&self, pid: Pid, number: u32, side: Side) {
        *self.trap.lock().unwrap() = Some(Trap {
            pid,
            number,
            came: 0,
            side,
        });
    }

    /// Takes the trap away; how many things came since it was set, and whether it has been sprung.
    pub(crate) fn take(&self) -> (u32, bool) {
        let trap = self.trap.lock().unwrap().take();
        trap.map_or((0, false), |trap| (trap.came, trap.came >= trap.number))
    }
}

/// Counts what the broker sends; says whom to kill, and on which side of it.
fn count(trap: &Mutex<Option<Trap>>) -> Option<(Pid, Side)> {
    let mut trap = trap.lock().unwrap();
    let trap = trap.as_mut()?;
    trap.came += 1;
    (trap.came == trap.number).then_some((trap.pid, trap.side))
}

async fn pass(client: TcpStream, server: TcpStream, trap: Arc<Mutex<Option<Trap>>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // Whoever holds this passes on what the server says: nobody, once the broker is killed.
    let answers = Arc::new(tokio::sync::Mutex::new(()));
    let held = Arc::clone(&answers);
    let back = tokio::spawn(async move {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
            let _passing = held.lock().await;
            if to_client.write_all(&bytes[..length]).await.is_err() {
                break;
            }
        }
    });
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
        let sprung = count(&trap);
        if let Some((pid, Side::Before)) = sprung {
            let _ = kill_process(pid, Signal::KILL);
            break;
        }
        let answering = answers.lock().await;
        if to_server.write_all(&bytes[..length]).await.is_err() {
            break;
        }
        if let Some((pid, Side::After)) = sprung {
            let _ = kill_process(pid, Signal::KILL);
            // The server reads what it got to the end before it notices that nobody is there.
            break;
        }
        drop(answering);
    }
    drop(to_server);
    back.abort();
}

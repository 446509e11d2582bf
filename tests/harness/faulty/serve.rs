//! Connections, and what befalls requests on them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::fault::{Deliver, Fault, Say};
use super::target::Target;
use super::wire::{self, Head, Place, Response};
use super::{Book, Exchange};

type Shared = Arc<Mutex<Book>>;

fn open(book: &Shared) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn serve(listener: TcpListener, behind: Place, book: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        let (book, behind) = (book.clone(), behind.clone());
        // How a connection ends is the platform's affair.
        tokio::spawn(async move { connection(stream, &behind, &book).await });
    }
}

async fn connection(stream: TcpStream, behind: &Place, book: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufStream::new(stream);
    while let Some(head) = Head::read(&mut stream).await? {
        let Some(mut visit) = Visit::begin(book, &head) else {
            let _ = head.body(&mut stream).await?;
            whole(&mut stream, &Response::new(404, "{}")).await?;
            continue;
        };
        if !visit.handle(&mut stream, &head, behind).await? {
            break;
        }
    }
    Ok(())
}

/// A request on its way. When it ends, however it does, nobody waits for its answer any more.
struct Visit<'a> {
    book: &'a Shared,
    target: Target,
    fault: Fault,
    serial: u64,
    index: usize,
    body: Vec<u8>,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let mut open = open(self.book);
        open.audit.end(self.serial, false);
        open.now -= 1;
    }
}

impl<'a> Visit<'a> {
    /// Takes a request in; none when there is no such route.
    fn begin(book: &'a Shared, head: &Head) -> Option<Self> {
        let mut open = open(book);
        let target = Target::read(&head.method, &head.target);
        let query = target.as_ref().map(|target| target.query.clone());
        let name = |of: fn(&Target) -> &String| target.as_ref().map(of).cloned();
        let exchange = Exchange {
            on: target.as_ref().map(|target| target.on),
            instance: name(|target| &target.instance).unwrap_or_default(),
            binding: name(|target| &target.binding).unwrap_or_default(),
            method: head.method.clone(),
            target: head.target.clone(),
            query: query.into_iter().flatten().collect::<HashMap<_, _>>(),
            headers: head.headers.clone(),
            body: Vec::new(),
            at: Instant::now(),
            status: None,
        };
        let index = open.exchanges.len();
        open.exchanges.push(exchange);
        let Some(target) = target else {
            let what = format!("{} {}: no such route", head.method, head.target);
            open.audit.violations.push(what);
            return None;
        };
        let fault = open.fault(target.on);
        let serial = open.audit.begin(&target);
        open.now += 1;
        open.most = open.most.max(open.now);
        drop(open);
        Some(Self {
            book,
            target,
            fault,
            serial,
            index,
            body: Vec::new(),
        })
    }

    /// Handles it. Whether the connection goes on.
    async fn handle(
        &mut self,
        stream: &mut BufStream<TcpStream>,
        head: &Head,
        behind: &Place,
    ) -> io::Result<bool> {
        if self.fault.deliver == Deliver::ResetUnread {
            open(self.book).audit.end(self.serial, true);
            stream.get_ref().set_zero_linger()?;
            return Ok(false);
        }
        self.body = head.body(stream).await?;
        {
            let mut open = open(self.book);
            open.exchanges[self.index].body.clone_from(&self.body);
            open.audit.look(&self.target, &head.headers, &self.body);
        }
        if let Some(wait) = self.fault.late {
            self.pass_on_late(head, behind, wait);
        }
        let usual = match (self.fault.applied, &self.fault.say) {
            (true, _) => Some(self.pass_on(head, behind).await?),
            (false, _) => None,
        };
        let answer = match (&self.fault.say, usual) {
            (Say::Other(other), _) => other.clone(),
            (Say::Edited(edit), Some(mut usual)) => {
                edit(&mut usual);
                usual
            }
            (Say::Usual, Some(usual)) => usual,
            (Say::Usual | Say::Edited(_), None) => Response::new(500, "{}"),
        };
        if !self.fault.wait.is_zero() {
            tokio::select! {
                () = sleep(self.fault.wait) => {}
                () = left(stream) => return Ok(false),
            }
        }
        self.deliver(stream, &answer).await
    }

    fn pass_on_late(&self, head: &Head, behind: &Place, wait: Duration) {
        let (book, target) = (self.book.clone(), self.target.clone());
        let (head, body, behind) = (head.clone(), self.body.clone(), behind.clone());
        tokio::spawn(async move {
            sleep(wait).await;
            if let Ok(answer) = wire::ask(&behind, &head, &body).await {
                open(&book).audit.done(&target, &body, &answer);
            }
        });
    }

    async fn pass_on(&self, head: &Head, behind: &Place) -> io::Result<Response> {
        let answer = wire::ask(behind, head, &self.body).await?;
        open(self.book)
            .audit
            .done(&self.target, &self.body, &answer);
        Ok(answer)
    }

    async fn deliver(
        &self,
        stream: &mut BufStream<TcpStream>,
        answer: &Response,
    ) -> io::Result<bool> {
        let head = answer.head();
        let cut = match self.fault.deliver {
            Deliver::Whole => {
                self.told(answer);
                whole(stream, answer).await?;
                return Ok(true);
            }
            Deliver::Drip(each) => {
                for byte in head.iter().chain(&answer.body) {
                    stream.write_all(&[*byte]).await?;
                    stream.flush().await?;
                    tokio::select! {
                        () = sleep(each) => {}
                        () = left(stream) => return Ok(false),
                    }
                }
                self.told(answer);
                return Ok(true);
            }
            Deliver::Hang => {
                left(stream).await;
                return Ok(false);
            }
            Deliver::Close => {
                open(self.book).audit.end(self.serial, true);
                return Ok(false);
            }
            Deliver::Reset | Deliver::ResetUnread => Vec::new(),
            Deliver::HalfHead => head[..head.len() / 2].to_vec(),
            Deliver::HalfBody => {
                let half = &answer.body[..answer.body.len() / 2];
                [&head, half].concat()
            }
        };
        open(self.book).audit.end(self.serial, true);
        stream.write_all(&cut).await?;
        stream.flush().await?;
        if !cut.is_empty() {
            // A reset overtakes what is still on its way.
            sleep(Duration::from_millis(20)).await;
        }
        stream.get_ref().set_zero_linger()?;
        Ok(false)
    }

    /// Before it is sent: the next request may come as soon as it was.
    fn told(&self, answer: &Response) {
        let mut open = open(self.book);
        open.exchanges[self.index].status = Some(answer.status);
        open.audit.told(&self.target, &self.body, answer);
        open.audit.end(self.serial, true);
    }
}

async fn whole(stream: &mut BufStream<TcpStream>, answer: &Response) -> io::Result<()> {
    stream.write_all(&answer.head()).await?;
    if !matches!(answer.status, 204 | 304) {
        stream.write_all(&answer.body).await?;
    }
    stream.flush().await
}

/// Returns when the platform has gone.
async fn left(stream: &mut BufStream<TcpStream>) {
    let mut byte = [0];
    while matches!(stream.read(&mut byte).await, Ok(1)) {}
}

//! HTTP/1.1 by hand: only so can an answer end in the middle, or a connection be reset at a
//! chosen byte.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;

/// The longest head of a message; a longer one is a mistake of the test.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Headers in the order in which they came.
pub type Headers = Vec<(String, String)>;

/// The first header of this name, whatever its case.
pub(super) fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// The line and the headers of a request.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) method: String,
    /// Path and query, as they were sent.
    pub(super) target: String,
    pub(super) headers: Headers,
}

impl Head {
    /// Reads the next request of a connection; none when the other side has ended it.
    pub(super) async fn read(stream: &mut BufStream<TcpStream>) -> io::Result<Option<Self>> {
        let Some((line, headers)) = message(stream).await? else {
            return Ok(None);
        };
        let mut words = line.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(io::Error::other(format!("no request line: {line}")));
        };
        Ok(Some(Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers,
        }))
    }

    /// Reads the body that follows.
    pub(super) async fn body(&self, stream: &mut BufStream<TcpStream>) -> io::Result<Vec<u8>> {
        let length = header(&self.headers, "content-length").map_or(Ok(0), str::parse);
        let mut body = vec![0; length.map_err(io::Error::other)?];
        stream.read_exact(&mut body).await?;
        Ok(body)
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers, without those that only the connection needs.
    pub headers: Headers,
    /// Its body.
    pub body: Vec<u8>,
}

impl Response {
    /// An answer with a JSON body.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.into(),
        }
    }

    /// Sets a header in place of what it was.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_string()));
    }

    /// The head as it is sent, with the length of the whole body.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} As Told\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !matches!(self.status, 204 | 304) {
            text.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// Where a broker listens, and the path below which it does.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    pub(super) prefix: String,
}

/// Passes a request on and returns the answer.
pub(super) async fn ask(to: &Place, head: &Head, body: &[u8]) -> io::Result<Response> {
    let mut stream = BufStream::new(TcpStream::connect(to.address).await?);
    let mut text = format!("{} {}{} HTTP/1.1\r\n", head.method, to.prefix, head.target);
    let own = |name: &str| {
        ["connection", "content-length", "transfer-encoding"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    };
    for (name, value) in head.headers.iter().filter(|(name, _)| !own(name)) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!(
        "connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ));
    stream.write_all(text.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await?;
    answer(&mut stream).await
}

async fn answer(stream: &mut BufStream<TcpStream>) -> io::Result<Response> {
    let Some((line, headers)) = message(stream).await? else {
        return Err(io::Error::other("the broker behind gave no answer"));
    };
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let mut body = Vec::new();
    match header(&headers, "content-length").map(str::parse) {
        Some(length) => {
            body.resize(length.map_err(io::Error::other)?, 0);
            stream.read_exact(&mut body).await?;
        }
        None => {
            stream.read_to_end(&mut body).await?;
        }
    }
    let hop = |name: &str| {
        ["connection", "content-length", "date", "server"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    };
    Ok(Response {
        status: status.ok_or_else(|| io::Error::other(format!("no status line: {line}")))?,
        headers: headers.into_iter().filter(|(name, _)| !hop(name)).collect(),
        body,
    })
}

/// The first line and the headers of a message.
async fn message(stream: &mut BufStream<TcpStream>) -> io::Result<Option<(String, Headers)>> {
    let mut first = String::new();
    if stream.read_line(&mut first).await? == 0 {
        return Ok(None);
    }
    let mut headers = Headers::new();
    let mut bytes = first.len();
    loop {
        let mut line = String::new();
        let read = stream.read_line(&mut line).await?;
        bytes += read;
        if read == 0 || bytes > HEAD_BYTES_MAX {
            return Err(io::Error::other("a head without an end"));
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => return Ok(Some((first.trim_end().to_owned(), headers))),
        }
    }
}

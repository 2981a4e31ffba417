//! One connection to one of the servers, in that server's own protocol.

use super::BODY;
use super::server::{Keeping, Peer};
use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

pub struct Client {
    peer: Peer,
    /// Tells the connections of one server apart.
    number: u16,
    stream: BufReader<TcpStream>,
    line: Vec<u8>,
    body: Vec<u8>,
    /// What pushes an item; made once, so that sending it costs the same whatever the protocol.
    push: Vec<u8>,
    /// The lease that the next request acks.
    ack: String,
}

/// What a NATS server sent.
struct Message {
    reply: String,
    is_status: bool,
}

impl Client {
    pub async fn connect(peer: Peer, keeping: Keeping, port: u16, number: u16) -> anyhow::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let stream = BufReader::new(stream);
        let push = match peer {
            Peer::Queued => http_request("items", &BODY),
            Peer::RedisList => redis_command(&[b"LPUSH", b"q", &BODY]),
            Peer::RedisStream => redis_command(&[b"XADD", b"q", b"*", b"b", &BODY]),
            Peer::Beanstalkd => [b"put 0 0 60 100\r\n", BODY.as_slice(), b"\r\n"].concat(),
            Peer::JetStream => nats_message("q", number, &BODY),
        };
        let mut client =
            Client { peer, number, stream, line: Vec::new(), body: Vec::new(), push, ack: String::new() };
        match peer {
            // The first one makes it, the others are told that it is there.
            Peer::RedisStream => {
                client.redis(&[b"XGROUP", b"CREATE", b"q", b"g", b"0", b"MKSTREAM"]).await?;
                client.line().await?;
            }
            Peer::JetStream => client.greet_nats(keeping).await?,
            _ => {}
        }
        Ok(client)
    }

    async fn send(&mut self, parts: &[&[u8]]) -> anyhow::Result<()> {
        Ok(self.stream.get_mut().write_all(&parts.concat()).await?)
    }

    async fn line(&mut self) -> anyhow::Result<&str> {
        self.line.clear();
        if self.stream.read_until(b'\n', &mut self.line).await? == 0 {
            bail!("{} closed the connection", self.peer.name());
        }
        Ok(std::str::from_utf8(&self.line)?.trim_end())
    }

    async fn bytes(&mut self, count: usize) -> anyhow::Result<()> {
        self.body.resize(count, 0);
        self.stream.read_exact(&mut self.body).await?;
        Ok(())
    }

    pub async fn push(&mut self) -> anyhow::Result<()> {
        self.stream.get_mut().write_all(&self.push).await?;
        match self.peer {
            Peer::Queued => self.http_answer().await,
            Peer::RedisList => self.expect(":").await,
            Peer::RedisStream => self.redis_value().await.map(drop),
            Peer::Beanstalkd => self.expect("INSERTED").await,
            Peer::JetStream => self.nats_answer().await.map(drop),
        }
    }

    /// Takes an item and says that it is done; false when there is none left.
    pub async fn cycle(&mut self) -> anyhow::Result<bool> {
        match self.peer {
            Peer::Queued => {
                let wish = format!("{{\"ack\":[{}]}}", self.ack);
                self.http("lease", wish.as_bytes()).await?;
                let answer = std::str::from_utf8(&self.body)?;
                let items = answer.split("\"done\":").next().unwrap_or_default();
                let field = |name: &str| items.split(name).nth(1).and_then(|rest| rest.split('"').next());
                let Some((id, token)) = field("\"id\":\"").zip(field("\"token\":\"")) else {
                    return Ok(false);
                };
                self.ack = format!("{{\"id\":\"{id}\",\"token\":\"{token}\"}}");
                Ok(true)
            }
            Peer::RedisList => {
                self.redis(&[b"RPOPLPUSH", b"q", b"p"]).await?;
                if self.redis_value().await?.is_none() {
                    return Ok(false);
                }
                self.redis(&[b"LREM", b"p", b"1", &BODY]).await?;
                self.expect(":").await?;
                Ok(true)
            }
            Peer::RedisStream => {
                let consumer = self.number.to_string();
                self.redis(&[
                    b"XREADGROUP",
                    b"GROUP",
                    b"g",
                    consumer.as_bytes(),
                    b"COUNT",
                    b"1",
                    b"STREAMS",
                    b"q",
                    b">",
                ])
                .await?;
                // *1 *2 q *1 *2 id *2 b BODY
                if self.line().await? == "*-1" {
                    return Ok(false);
                }
                self.line().await?;
                self.redis_value().await?;
                self.line().await?;
                self.line().await?;
                let id = self.redis_value().await?.context("no id")?;
                self.line().await?;
                self.redis_value().await?;
                self.redis_value().await?;
                self.redis(&[b"XACK", b"q", b"g", &id]).await?;
                self.expect(":").await?;
                Ok(true)
            }
            Peer::Beanstalkd => {
                self.send(&[b"reserve-with-timeout 0\r\n"]).await?;
                let line = self.line().await?;
                let Some(job) = line.strip_prefix("RESERVED ") else { return Ok(false) };
                let id = job.split(' ').next().unwrap_or_default().to_owned();
                self.bytes(BODY.len() + 2).await?;
                self.send(&[b"delete ", id.as_bytes(), b"\r\n"]).await?;
                self.expect("DELETED").await?;
                Ok(true)
            }
            Peer::JetStream => {
                let wish = b"{\"batch\":1,\"no_wait\":true}";
                let item = self.nats_request("$JS.API.CONSUMER.MSG.NEXT.q.c", wish).await?;
                if item.is_status {
                    return Ok(false);
                }
                // With an answer, as for the others: without one it may be lost on the way.
                self.nats_request(&item.reply, b"+ACK").await?;
                Ok(true)
            }
        }
    }

    async fn expect(&mut self, begin: &str) -> anyhow::Result<()> {
        let name = self.peer.name();
        let line = self.line().await?;
        if !line.starts_with(begin) {
            bail!("{name} answered {line:?}");
        }
        Ok(())
    }

    async fn http(&mut self, path: &str, body: &[u8]) -> anyhow::Result<()> {
        self.send(&[&http_request(path, body)]).await?;
        self.http_answer().await
    }

    async fn http_answer(&mut self) -> anyhow::Result<()> {
        self.line.clear();
        while !self.line.ends_with(b"\r\n\r\n") {
            let unread = self.stream.fill_buf().await?;
            if unread.is_empty() {
                bail!("{} closed the connection", self.peer.name());
            }
            // A head that comes in pieces, which hardly happens, is taken byte by byte.
            let head = memchr::memmem::find(unread, b"\r\n\r\n").map_or(1, |end| end + 4);
            self.line.extend_from_slice(&unread[..head]);
            self.stream.consume(head);
        }
        // Of the head only the status and the length matter.
        if !self.line.starts_with(b"HTTP/1.1 20") {
            bail!("{} answered {:?}", self.peer.name(), String::from_utf8_lossy(&self.line));
        }
        let name = b"content-length: ";
        let length = memchr::memmem::find(&self.line, name).context("no content-length")? + name.len();
        let digits = self.line[length..].iter().take_while(|byte| byte.is_ascii_digit());
        let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
        self.bytes(length).await
    }

    /// Lines, as one batch.
    pub async fn push_lines(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        self.http("batch", lines).await
    }

    async fn redis(&mut self, words: &[&[u8]]) -> anyhow::Result<()> {
        self.send(&[&redis_command(words)]).await
    }

    /// One bulk string; `None` is nil.
    async fn redis_value(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let line = self.line().await?;
        let length: i64 = line.strip_prefix('$').with_context(|| line.to_owned())?.parse()?;
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        self.bytes(length + 2).await?;
        Ok(self.body.get(..length).map(Into::into))
    }

    async fn greet_nats(&mut self, keeping: Keeping) -> anyhow::Result<()> {
        self.expect("INFO").await?;
        let hello =
            format!("CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB inbox.{} 1\r\n", self.number);
        self.send(&[hello.as_bytes()]).await?;
        let storage = if keeping == Keeping::Memory { "memory" } else { "file" };
        let stream =
            format!(r#"{{"name":"q","subjects":["q"],"retention":"workqueue","storage":"{storage}"}}"#);
        self.nats_request("$JS.API.STREAM.CREATE.q", stream.as_bytes()).await?;
        let consumer = r#"{"stream_name":"q","config":{"durable_name":"c","ack_policy":"explicit","max_ack_pending":10000}}"#;
        self.nats_request("$JS.API.CONSUMER.DURABLE.CREATE.q.c", consumer.as_bytes()).await?;
        if self.body.windows(9).any(|part| part == b"\"error\":{") {
            bail!("NATS: {}", String::from_utf8_lossy(&self.body));
        }
        Ok(())
    }

    async fn nats_request(&mut self, subject: &str, body: &[u8]) -> anyhow::Result<Message> {
        self.send(&[&nats_message(subject, self.number, body)]).await?;
        self.nats_answer().await
    }

    async fn nats_answer(&mut self) -> anyhow::Result<Message> {
        loop {
            let line = self.line().await?.to_owned();
            let mut words = line.split(' ');
            match words.next() {
                Some("PING") => self.send(&[b"PONG\r\n"]).await?,
                Some("MSG" | "HMSG") => {
                    // MSG subject sid [reply] bytes; HMSG has the bytes of its head before that.
                    let is_head = line.starts_with("HMSG");
                    let words: Vec<&str> = words.collect();
                    let length: usize = words.last().context("an empty MSG")?.parse()?;
                    let has_reply = words.len() == if is_head { 5 } else { 4 };
                    let reply = if has_reply { words[2].to_owned() } else { String::new() };
                    self.bytes(length + 2).await?;
                    return Ok(Message { reply, is_status: is_head });
                }
                Some("-ERR") => bail!("NATS: {line}"),
                _ => {}
            }
        }
    }
}

fn http_request(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST /v1/queues/q/{path} HTTP/1.1\r\nHost: q\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn redis_command(words: &[&[u8]]) -> Vec<u8> {
    let mut command = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        command.extend_from_slice(word);
        command.extend_from_slice(b"\r\n");
    }
    command
}

/// To be answered to the inbox of the client with this number.
fn nats_message(subject: &str, number: u16, body: &[u8]) -> Vec<u8> {
    let head = format!("PUB {subject} inbox.{number} {}\r\n", body.len());
    [head.as_bytes(), body, b"\r\n"].concat()
}

//! A NATS JetStream client: a work queue, whose consumer is asked for the next items.

use super::Order;
use crate::queued::server::Keeping;
use crate::wire::Wire;
use anyhow::{Context, bail};

pub struct Client {
    wire: Wire,
    items: usize,
    /// Number of this client, whose inbox receives the answers.
    number: u16,
    push: Vec<u8>,
    take: Vec<u8>,
}

/// A message from a NATS server.
struct Message {
    reply: String,
    is_status: bool,
    is_error: bool,
}

impl Client {
    pub async fn new(wire: Wire, order: Order, number: u16, keeping: Keeping) -> anyhow::Result<Client> {
        let wish = format!("{{\"batch\":{},\"no_wait\":true}}", order.items);
        let mut client = Client {
            wire,
            items: order.items,
            number,
            push: order.pushes(|body| message("q", number, body)),
            take: message("$JS.API.CONSUMER.MSG.NEXT.q.c", number, wish.as_bytes()),
        };
        client.greet(keeping).await?;
        Ok(client)
    }

    async fn greet(&mut self, keeping: Keeping) -> anyhow::Result<()> {
        self.wire.expect("INFO").await?;
        let hello =
            format!("CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB inbox.{} 1\r\n", self.number);
        self.wire.send(hello.as_bytes()).await?;
        let storage = if keeping == Keeping::Memory { "memory" } else { "file" };
        let stream =
            format!(r#"{{"name":"q","subjects":["q"],"retention":"workqueue","storage":"{storage}"}}"#);
        self.request("$JS.API.STREAM.CREATE.q", stream.as_bytes()).await?;
        let consumer = r#"{"stream_name":"q","config":{"durable_name":"c","ack_policy":"explicit","max_ack_pending":10000}}"#;
        let made = self.request("$JS.API.CONSUMER.DURABLE.CREATE.q.c", consumer.as_bytes()).await?;
        if made.is_error {
            bail!("NATS made no consumer");
        }
        Ok(())
    }

    pub async fn push(&mut self) -> anyhow::Result<()> {
        self.wire.send(&self.push).await?;
        for _ in 0..self.items {
            if self.answer().await?.is_error {
                bail!("NATS kept no item");
            }
        }
        Ok(())
    }

    pub async fn cycle(&mut self) -> anyhow::Result<usize> {
        self.wire.send(&self.take).await?;
        let (mut count, mut acks) = (0, Vec::new());
        while count < self.items {
            let item = self.answer().await?;
            if item.is_status {
                break;
            }
            // Acks ask for an answer, as with the other servers: without one an ack may be lost on the way.
            acks.extend(message(&item.reply, self.number, b"+ACK"));
            count += 1;
        }
        self.wire.send(&acks).await?;
        for _ in 0..count {
            self.answer().await?;
        }
        Ok(count)
    }

    async fn request(&mut self, subject: &str, body: &[u8]) -> anyhow::Result<Message> {
        self.wire.send(&message(subject, self.number, body)).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> anyhow::Result<Message> {
        loop {
            let line = self.wire.line().await?.to_owned();
            let mut words = line.split(' ');
            match words.next() {
                Some("PING") => self.wire.send(b"PONG\r\n").await?,
                Some("MSG" | "HMSG") => {
                    // MSG subject sid [reply] bytes; HMSG has the length of its head before that.
                    let is_head = line.starts_with("HMSG");
                    let words: Vec<&str> = words.collect();
                    let length: usize = words.last().context("an empty MSG")?.parse()?;
                    let has_reply = words.len() == if is_head { 5 } else { 4 };
                    let reply = if has_reply { words[2].to_owned() } else { String::new() };
                    let body = self.wire.bytes(length + 2).await?;
                    let is_error = memchr::memmem::find(body, b"\"error\":{").is_some();
                    return Ok(Message { reply, is_status: is_head, is_error });
                }
                Some("-ERR") => bail!("NATS: {line}"),
                _ => {}
            }
        }
    }
}

/// Builds a message whose answer goes to the inbox of the client with this number.
fn message(subject: &str, number: u16, body: &[u8]) -> Vec<u8> {
    let head = format!("PUB {subject} inbox.{number} {}\r\n", body.len());
    [head.as_bytes(), body, b"\r\n"].concat()
}

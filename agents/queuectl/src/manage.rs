//! Subcommands that send a request and print the answer: queues, their settings, items, dead letters.

use crate::api::Client;
use crate::attempts;
use crate::failure::Failure;
use crate::flags::{
    Command, Configure, Dead, DeadItems, Flags, ItemIds, ItemState, MoveItems, Pagination, Peek,
};
use crate::missing;
use crate::queue_name::QueueName;
use crate::retry::until_answered;
use hyper::Method;
use kit::caller::query;
use kit::exit::{Exit, Fatal};
use kit::terminal;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Sends requests, and prints the answers for a person or a script.
pub(crate) struct Console<'a> {
    pub(crate) client: &'a Client,
    pub(crate) json: bool,
    pub(crate) give_up: Option<Duration>,
}

/// The time for which producers retry, since they often start together with their server.
const PRODUCERS_GIVE_UP: Duration = Duration::from_secs(60);
/// The protocol's bound for one request.
const IDS_MAX: usize = 1000;

impl Console<'_> {
    pub(crate) fn new<'a>(client: &'a Client, flags: &Flags) -> Console<'a> {
        Console { client, json: flags.json, give_up: flags.give_up }
    }

    /// The time for which a producer's request is retried. Other requests are sent once.
    pub(crate) fn producers_give_up(&self) -> Duration {
        self.give_up.unwrap_or(PRODUCERS_GIVE_UP)
    }

    pub(crate) async fn run(&self, command: &Command) -> Result<(), Fatal> {
        match command {
            Command::Seal(which) => self.queue_post(&which.queue, "seal", "sealed").await,
            Command::Unseal(which) => self.queue_post(&which.queue, "unseal", "open").await,
            Command::Pause(which) => self.queue_post(&which.queue, "pause", "paused").await,
            Command::Resume(which) => self.queue_post(&which.queue, "resume", "resumed").await,
            Command::Drain(which) => {
                let answer = self.ask(&Method::POST, &path(&which.queue, "/drain"), None).await?;
                self.print(&answer, || format!("removed {}", items(&answer["removed"])))
            }
            Command::Peek(peek) => self.peek(peek).await,
            Command::DeleteItems(items) => self.delete_items(items).await,
            Command::MoveItems(items) => self.move_items(items).await,
            Command::Dead(Dead::List(page)) => self.items(page, "/dead", &[]).await,
            Command::Dead(Dead::Redrive(chosen)) => self.dead(chosen, "redrive", "redriven").await,
            Command::Dead(Dead::Delete(chosen)) => self.dead(chosen, "delete", "deleted").await,
            Command::Queues => self.queues().await,
            Command::Create(configure) => self.configure(configure, self.producers_give_up()).await,
            Command::Configure(configure) => {
                // The request below would create a queue whose name was mistyped.
                self.ask(&Method::GET, &path(&configure.which.queue, ""), None).await?;
                self.configure(configure, Duration::ZERO).await
            }
            Command::Delete(which) => {
                let answer = self.ask(&Method::DELETE, &path(&which.queue, ""), None).await?;
                self.print(&answer, || format!("deleted {}", which.queue))
            }
            Command::Run(_) | Command::Push(_) | Command::Stats(_) => Ok(()),
        }
    }

    pub(crate) async fn ask(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Fatal> {
        self.ask_for(self.give_up.unwrap_or_default(), method, path, body).await
    }

    async fn ask_for(
        &self,
        give_up: Duration,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Fatal> {
        let server = self.client.server();
        let asked =
            until_answered(self.client, give_up, async || self.client.ask(method, path, body).await).await;
        match asked {
            Ok(answer) => Ok(answer),
            Err(failure) if failure.word() == "no_such_queue" => Err(self.no_such_queue(failure, path).await),
            Err(failure) => Err(failure.fatal(format!("the request to {server} failed"))),
        }
    }

    /// Names the missing queue of this path, and the queues that exist.
    async fn no_such_queue(&self, failure: Failure, path: &str) -> Fatal {
        let server = self.client.server();
        let name = path.split(['/', '?']).nth(3).and_then(|name| name.parse::<QueueName>().ok());
        match name {
            Some(name) => {
                let advice = missing::advice(self.client, &name).await;
                Fatal::new(Exit::Failure, format!("{server} has no queue {name}{advice}"))
            }
            None => failure.fatal(format!("the request to {server} failed")),
        }
    }

    fn print(&self, answer: &Value, plain: impl FnOnce() -> String) -> Result<(), Fatal> {
        match self.json {
            true if answer.is_null() => terminal::line(&json!({})),
            true => terminal::line(answer),
            false => {
                let text = plain();
                if text.is_empty() { Ok(()) } else { terminal::line(&text) }
            }
        }
    }

    async fn queue_post(&self, queue: &QueueName, action: &str, done: &str) -> Result<(), Fatal> {
        let path = path(queue, &format!("/{action}"));
        let answer = self.ask_for(self.producers_give_up(), &Method::POST, &path, None).await?;
        self.print(&answer, || format!("{queue} is {done}, {}", verdict(&answer)))
    }

    async fn configure(&self, configure: &Configure, give_up: Duration) -> Result<(), Fatal> {
        let queue = &configure.which.queue;
        let settings = settings(configure);
        let answer = self.ask_for(give_up, &Method::PUT, &path(queue, ""), Some(&settings)).await?;
        self.print(&answer, || {
            let settings = answer["settings"].as_object().cloned().unwrap_or_default();
            let rows = settings.iter().map(|(name, value)| vec![name.clone(), text(value)]);
            terminal::table(&rows.collect::<Vec<_>>())
        })
    }

    async fn queues(&self) -> Result<(), Fatal> {
        let answer = self.ask(&Method::GET, "/v1/queues", None).await?;
        self.print(&answer, || {
            let queues = answer["queues"].as_array().map(Vec::as_slice).unwrap_or_default();
            queues.iter().map(|queue| text(&queue["name"])).collect::<Vec<_>>().join("\n")
        })
    }

    async fn peek(&self, peek: &Peek) -> Result<(), Fatal> {
        if let Some(id) = &peek.id {
            return self.item(&peek.page.which.queue, id).await;
        }
        let state = peek.state.map(|state| match state {
            ItemState::Ready => "ready",
            ItemState::Delayed => "delayed",
            ItemState::Leased => "leased",
            ItemState::Dead => "dead",
        });
        let only = [("state", state), ("key", peek.key.as_deref()), ("text", peek.text.as_deref())];
        self.items(&peek.page, "/items", &only).await
    }

    /// Prints one item and its last attempts.
    async fn item(&self, queue: &QueueName, id: &str) -> Result<(), Fatal> {
        let item = self.ask(&Method::GET, &path(queue, &format!("/items/{id}")), None).await?;
        self.print(&item, || {
            let shown = item_table(std::slice::from_ref(&item));
            match item["history"].as_array() {
                Some(history) => format!("{shown}\n\n{}", attempts::table(history)),
                None => shown,
            }
        })
    }

    async fn items(
        &self,
        page: &Pagination,
        below: &str,
        only: &[(&str, Option<&str>)],
    ) -> Result<(), Fatal> {
        let answer = self.found(page, below, only).await?;
        self.print(&answer, || {
            let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            item_table(items)
        })
    }

    /// Returns a page of items. A search that the server ends early, to bound the work of one request, is
    /// continued.
    async fn found(
        &self,
        page: &Pagination,
        below: &str,
        only: &[(&str, Option<&str>)],
    ) -> Result<Value, Fatal> {
        let mut items = Vec::new();
        let mut after = page.after.clone();
        loop {
            let limit = page.limit - u32::try_from(items.len()).unwrap_or(page.limit);
            let limit = limit.to_string();
            let place = [("limit", Some(limit.as_str())), ("after", after.as_deref())];
            let below = format!("{below}{}", query(&[&place[..], only].concat()));
            let mut answer = self.ask(&Method::GET, &path(&page.which.queue, &below), None).await?;
            if let Some(found) = answer.get_mut("items").and_then(Value::as_array_mut) {
                items.append(found);
            }
            after = answer["next"].as_str().map(str::to_owned);
            if after.is_none() || items.len() >= usize::try_from(page.limit).unwrap_or(usize::MAX) {
                if let Some(found) = answer.get_mut("items") {
                    *found = items.into();
                }
                return Ok(answer);
            }
        }
    }

    async fn delete_items(&self, items: &ItemIds) -> Result<(), Fatal> {
        let path = path(&items.which.queue, "/items/delete");
        let mut deleted = 0;
        for ids in items.ids.chunks(IDS_MAX) {
            let answer = self.ask(&Method::POST, &path, Some(&json!({ "ids": ids }))).await?;
            deleted += answer["count"].as_u64().unwrap_or_default();
        }
        self.print_count("deleted", deleted, items)
    }

    async fn move_items(&self, request: &MoveItems) -> Result<(), Fatal> {
        let (items, to) = (&request.items, request.to.to_string());
        let path = path(&items.which.queue, "/items/move");
        let mut moved = 0;
        for ids in items.ids.chunks(IDS_MAX) {
            let mut left = ids.len();
            // One request moves a bounded number of bytes. Ids that are already moved are skipped.
            while left > 0 {
                let answer = self.ask(&Method::POST, &path, Some(&json!({"to": to, "ids": ids}))).await?;
                let count = answer["count"].as_u64().unwrap_or_default();
                if count == 0 {
                    break;
                }
                moved += count;
                left = left.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
            }
        }
        self.print_count("moved", moved, items)
    }

    /// Prints how many items were changed, and why others were not.
    fn print_count(&self, done: &str, count: u64, asked: &ItemIds) -> Result<(), Fatal> {
        self.print(&json!({ "count": count }), || {
            let number = terminal::count(count, "item");
            if u64::try_from(asked.ids.len()).is_ok_and(|asked| asked == count) {
                format!("{done} {number}")
            } else {
                format!("{done} {number} of {}; the others are leased or do not exist", asked.ids.len())
            }
        })
    }

    async fn dead(&self, chosen: &DeadItems, action: &str, done: &str) -> Result<(), Fatal> {
        let body = if chosen.all { json!({}) } else { json!({"ids": chosen.ids}) };
        let path = path(&chosen.which.queue, &format!("/dead/{action}"));
        let answer = self.ask(&Method::POST, &path, Some(&body)).await?;
        self.print(&answer, || format!("{done} {}", items(&answer["count"])))
    }
}

fn path(queue: &QueueName, below: &str) -> String {
    format!("/v1/queues/{queue}{below}")
}

fn settings(configure: &Configure) -> Value {
    let millis =
        |duration: Option<Duration>| duration.map(|duration| Value::from(crate::wire::millis(duration)));
    let given = [
        ("lease_ms", millis(configure.lease)),
        ("max_attempts", configure.max_attempts.map(Value::from)),
        ("backoff_ms", millis(configure.backoff)),
        ("backoff_max_ms", millis(configure.backoff_max)),
        ("max_items", configure.max_items.map(Value::from)),
        ("max_bytes", configure.max_bytes.map(Value::from)),
        ("key_memory_ms", millis(configure.key_memory)),
        ("dead_letter_queue", configure.dead_letter_queue.clone().map(Value::from)),
    ];
    Value::Object(
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>(),
    )
}

const ITEM_COLUMNS: [&str; 5] = ["ID", "STATE", "ATTEMPTS", "BODY", "NOTE"];

fn item_table(items: &[Value]) -> String {
    let head = ITEM_COLUMNS.map(str::to_owned).to_vec();
    let rows: Vec<_> = [head].into_iter().chain(items.iter().map(item_row)).collect();
    terminal::table(&rows)
}

/// One row of a table of items: the body is cut, and the note is the reason, the time or the worker.
fn item_row(item: &Value) -> Vec<String> {
    const BODY_CHARS_MAX: usize = 60;
    const REASON_CHARS_MAX: usize = 100;
    let body = match (item["body"].as_str(), item["body_base64"].as_str()) {
        (Some(body), _) => terminal::excerpt(body, BODY_CHARS_MAX),
        (None, Some(base64)) => format!("base64:{}", terminal::excerpt(base64, BODY_CHARS_MAX)),
        (None, None) => String::new(),
    };
    let due = item["due_ms"].as_u64().map(|millis| format!("due in {}", terminal::age(millis)));
    let reason = item["reason"].as_str().map(|reason| terminal::excerpt(reason, REASON_CHARS_MAX));
    let worker =
        item["worker"].as_str().map(|worker| format!("at {}", terminal::excerpt(worker, REASON_CHARS_MAX)));
    let said = [reason, due, worker].into_iter().flatten().collect::<Vec<_>>().join(", ");
    vec![text(&item["id"]), text(&item["state"]), text(&item["attempts"]), body, said]
}

/// The server's verdict, with the number of items that died.
pub(crate) fn verdict(queue: &Value) -> String {
    match queue["failed"].as_u64() {
        None | Some(0) => text(&queue["verdict"]),
        Some(failed) => format!("{}, {failed} failed", text(&queue["verdict"])),
    }
}

fn items(number: &Value) -> String {
    terminal::count(number.as_u64().unwrap_or_default(), "item")
}

/// A value for people: text without quotes, a dash for nothing.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

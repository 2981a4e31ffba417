//! Everything that is one request and its answer: queues, statistics, peeking, dead letters.

use crate::api::Client;
use crate::flags::{Chosen, Configure, Dead, Flags, Page, Peek, State, Task};
use crate::missing;
use crate::patience::persist;
use crate::queue_name::QueueName;
use hyper::Method;
use kit::exit::{Exit, Fatal};
use kit::terminal;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Asks, and prints what comes back.
pub(crate) struct Desk<'a> {
    pub(crate) client: &'a Client,
    pub(crate) json: bool,
    pub(crate) give_up: Option<Duration>,
}

/// Producers often start together with their server.
const PATIENCE_OF_PRODUCERS: Duration = Duration::from_secs(60);

impl Desk<'_> {
    pub(crate) fn new<'a>(client: &'a Client, flags: &Flags) -> Desk<'a> {
        Desk { client, json: flags.json, give_up: flags.give_up }
    }

    /// How long to try for what a producer does; looking and managing is tried once.
    pub(crate) fn patience_of_producers(&self) -> Duration {
        self.give_up.unwrap_or(PATIENCE_OF_PRODUCERS)
    }

    pub(crate) async fn work(&self, task: &Task) -> Result<(), Fatal> {
        match task {
            Task::Seal(which) => self.queue_post(&which.queue, "seal", "sealed").await,
            Task::Unseal(which) => self.queue_post(&which.queue, "unseal", "open").await,
            Task::Drain(which) => {
                let answer = self.ask(&Method::POST, &path(&which.queue, "/drain"), None).await?;
                self.print(&answer, || format!("removed {}", items(&answer["removed"])))
            }
            Task::Peek(peek) => self.peek(peek).await,
            Task::Dead(Dead::List(page)) => self.items(page, "/dead", None).await,
            Task::Dead(Dead::Redrive(chosen)) => self.dead(chosen, "redrive", "redriven").await,
            Task::Dead(Dead::Delete(chosen)) => self.dead(chosen, "delete", "deleted").await,
            Task::Queues => self.queues().await,
            Task::Create(configure) => self.configure(configure, self.patience_of_producers()).await,
            Task::Configure(configure) => self.configure(configure, Duration::ZERO).await,
            Task::Delete(which) => {
                let answer = self.ask(&Method::DELETE, &path(&which.queue, ""), None).await?;
                self.print(&answer, || format!("deleted {}", which.queue))
            }
            Task::Run(_) | Task::Push(_) | Task::Stats(_) => Ok(()),
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
        let asked = persist(server, give_up, async || self.client.ask(method, path, body).await).await;
        match asked {
            Ok(answer) => Ok(answer),
            Err(failure) if failure.word() == "no_such_queue" => Err(self.no_such_queue(path).await),
            Err(failure) => Err(failure.fatal(format!("the request to {server} failed"))),
        }
    }

    /// The queue in this path does not exist: names it, and the queues that do.
    async fn no_such_queue(&self, path: &str) -> Fatal {
        let name = path.split(['/', '?']).nth(3).unwrap_or_default();
        let names = missing::names(self.client).await;
        let others = names.map(|names| missing::others(name, &names)).unwrap_or_default();
        Fatal::new(Exit::Failure, format!("{} has no queue {name}{others}", self.client.server()))
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
        let answer = self.ask_for(self.patience_of_producers(), &Method::POST, &path, None).await?;
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
        let state = peek.state.map(|state| match state {
            State::Ready => "ready",
            State::Delayed => "delayed",
            State::Leased => "leased",
            State::Dead => "dead",
        });
        self.items(&peek.page, "/items", state).await
    }

    async fn items(&self, page: &Page, below: &str, state: Option<&str>) -> Result<(), Fatal> {
        let mut query = format!("{below}?limit={}", page.limit);
        for (name, value) in [("state", state), ("after", page.after.as_deref())] {
            if let Some(value) = value {
                query.push_str(&format!("&{name}={value}"));
            }
        }
        let answer = self.ask(&Method::GET, &path(&page.which.queue, &query), None).await?;
        self.print(&answer, || {
            let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            let head = ITEM_COLUMNS.map(str::to_owned).to_vec();
            let rows: Vec<_> = [head].into_iter().chain(items.iter().map(item_row)).collect();
            terminal::table(&rows)
        })
    }

    async fn dead(&self, chosen: &Chosen, action: &str, done: &str) -> Result<(), Fatal> {
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

/// A value as people write it.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

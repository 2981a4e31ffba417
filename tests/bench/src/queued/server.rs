//! The work queue servers, each configured as its own users run it.

use crate::process::Contender;
use crate::programs;
use std::path::Path;
use std::process::{Command, Stdio};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    RedisList,
    RedisStream,
    Beanstalkd,
    JetStream,
    Queued,
}

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Keeping {
    Durable,
    Interval,
    Memory,
}

impl Keeping {
    pub fn sentence(self) -> &'static str {
        match self {
            Keeping::Durable => "Durable: what was answered survives a power loss",
            Keeping::Interval => {
                "Written: what was answered survives the server, and a power loss but for the last second"
            }
            Keeping::Memory => "In memory: nothing survives",
        }
    }
}

impl Peer {
    /// All servers; queued is last, next to the best of the others.
    pub const ALL: [Peer; 5] =
        [Peer::RedisList, Peer::RedisStream, Peer::Beanstalkd, Peer::JetStream, Peer::Queued];

    pub fn name(self) -> &'static str {
        match self {
            Peer::RedisList => "Redis list",
            Peer::RedisStream => "Redis stream",
            Peer::Beanstalkd => "beanstalkd",
            Peer::JetStream => "NATS JetStream",
            Peer::Queued => "queued",
        }
    }

    pub fn answer_means(self, keeping: Keeping) -> &'static str {
        match (self, keeping) {
            (_, Keeping::Memory) => "nothing beyond the process",
            (_, Keeping::Durable) => "synced to the disk",
            (Peer::Beanstalkd, Keeping::Interval) => {
                "written; synced with the next write after a second, so not while nothing comes"
            }
            (_, Keeping::Interval) => "written; synced within a second",
        }
    }

    pub fn after_a_death(self) -> &'static str {
        match self {
            Peer::RedisList => "stays in the second list until somebody moves it back",
            Peer::RedisStream => "stays with the dead one until somebody claims it",
            Peer::Beanstalkd | Peer::JetStream => "comes back after its time",
            Peer::Queued => "comes back after its lease; its attempts are counted",
        }
    }

    pub fn needs(self, keeping: Keeping) -> &'static str {
        match (self, keeping) {
            (Peer::RedisList | Peer::RedisStream, _) => "redis-server is not installed",
            (Peer::Beanstalkd, _) => "beanstalkd is not installed",
            (Peer::JetStream, Keeping::Durable) => {
                "no nats-server that knows sync_interval (2.10) is installed"
            }
            (Peer::JetStream, Keeping::Interval | Keeping::Memory) => "nats-server is not installed",
            (Peer::Queued, _) => "not built",
        }
    }

    pub fn is_there(self, queued: &Path, keeping: Keeping) -> bool {
        match self {
            Peer::Queued => queued.exists(),
            Peer::RedisList | Peer::RedisStream => programs::find("redis-server").is_some(),
            Peer::Beanstalkd => programs::find("beanstalkd").is_some(),
            // An older version does not know all of its settings.
            Peer::JetStream => tempfile::tempdir().is_ok_and(|directory| {
                let config = directory.path().join("nats.conf");
                let Some(program) = programs::find("nats-server") else { return false };
                let mut nats = programs::command(&program);
                nats.arg("-t").arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
                std::fs::write(&config, nats_config(keeping, 1)).is_ok()
                    && nats.status().is_ok_and(|status| status.success())
            }),
        }
    }

    pub fn start(self, keeping: Keeping, directory: &Path, queued: &Path) -> anyhow::Result<Contender> {
        Contender::on_a_free_port(self.name(), |port| {
            let mut command = self.command(keeping, directory, queued, port)?;
            command.current_dir(directory);
            Ok(command)
        })
    }

    fn command(
        self,
        keeping: Keeping,
        directory: &Path,
        queued: &Path,
        port: u16,
    ) -> anyhow::Result<Command> {
        let kept = keeping != Keeping::Memory;
        let address = format!("127.0.0.1:{port}");
        Ok(match self {
            Peer::Queued => {
                let mut command = Command::new(queued);
                command.args(["--line", "none", "--max-memory", "2GiB", "--http", &address]);
                command.args(["--data", if kept { "data" } else { "memory" }]);
                command
                    .args(["--durability", if keeping == Keeping::Durable { "always" } else { "interval" }]);
                command
            }
            Peer::RedisList | Peer::RedisStream => {
                let mut command = programs::command(&programs::required("redis-server")?);
                command.args(["--port", &port.to_string(), "--save", ""]);
                command.args(["--appendonly", if kept { "yes" } else { "no" }]);
                command
                    .args(["--appendfsync", if keeping == Keeping::Durable { "always" } else { "everysec" }]);
                command
            }
            Peer::Beanstalkd => {
                let mut command = programs::command(&programs::required("beanstalkd")?);
                command.args(["-l", "127.0.0.1", "-p", &port.to_string()]);
                command.args(match keeping {
                    Keeping::Durable => &["-b", ".", "-f0"][..],
                    Keeping::Interval => &["-b", ".", "-f1000"],
                    Keeping::Memory => &[],
                });
                command
            }
            Peer::JetStream => {
                std::fs::write(directory.join("nats.conf"), nats_config(keeping, port))?;
                let mut command = programs::command(&programs::required("nats-server")?);
                command.args(["-c", "nats.conf"]);
                command
            }
        })
    }
}

fn nats_config(keeping: Keeping, port: u16) -> String {
    let sync = match keeping {
        Keeping::Durable => ", sync_interval: always",
        Keeping::Interval => ", sync_interval: \"1s\"",
        Keeping::Memory => "",
    };
    format!("listen: 127.0.0.1:{port}\njetstream {{ store_dir: store{sync} }}\n")
}

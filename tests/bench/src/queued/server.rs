//! The work queue servers, each configured as its own users run it.

use crate::process::Contender;
use crate::programs;
use std::path::Path;
use std::process::{Command, Stdio};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    RedisList,
    RedisStream,
    ValkeyList,
    ValkeyStream,
    Beanstalkd,
    JetStream,
    Queued,
}

/// The durability that an answer promises.
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
    pub const ALL: [Peer; 7] = [
        Peer::RedisList,
        Peer::RedisStream,
        Peer::ValkeyList,
        Peer::ValkeyStream,
        Peer::Beanstalkd,
        Peer::JetStream,
        Peer::Queued,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Peer::RedisList => "Redis list",
            Peer::RedisStream => "Redis stream",
            Peer::ValkeyList => "Valkey list",
            Peer::ValkeyStream => "Valkey stream",
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
            Peer::RedisList | Peer::ValkeyList => "stays in the second list until somebody moves it back",
            Peer::RedisStream | Peer::ValkeyStream => "stays with the dead one until somebody claims it",
            Peer::Beanstalkd | Peer::JetStream => "comes back after its time",
            Peer::Queued => "comes back after its lease; its attempts are counted",
        }
    }

    /// Returns the name of the program.
    fn program(self) -> &'static str {
        match self {
            Peer::RedisList | Peer::RedisStream => "redis-server",
            Peer::ValkeyList | Peer::ValkeyStream => "valkey-server",
            Peer::Beanstalkd => "beanstalkd",
            Peer::JetStream => "nats-server",
            Peer::Queued => "queued",
        }
    }

    pub fn needs(self, keeping: Keeping) -> String {
        match (self, keeping) {
            (Peer::JetStream, Keeping::Durable) => {
                "no nats-server that knows sync_interval (2.10) is installed".to_owned()
            }
            (Peer::Queued, _) => "not built".to_owned(),
            _ => format!("{} is not installed", self.program()),
        }
    }

    /// Returns the version that the program reports; `None` for queued, which is built from this tree.
    pub fn version(self) -> Option<String> {
        let program = programs::find(self.program()).filter(|_| self != Peer::Queued)?;
        let flag = if self == Peer::Beanstalkd { "-v" } else { "--version" };
        let said = programs::command(&program).arg(flag).output().ok()?.stdout;
        let said = String::from_utf8_lossy(&said);
        let version =
            said.split_whitespace().find(|word| word.contains(|byte: char| byte.is_ascii_digit()))?;
        Some(format!("{} {}", self.program(), version.trim_start_matches("v=").trim_start_matches('v')))
    }

    pub fn is_there(self, queued: &Path, keeping: Keeping) -> bool {
        match self {
            Peer::Queued => queued.exists(),
            Peer::RedisList
            | Peer::RedisStream
            | Peer::ValkeyList
            | Peer::ValkeyStream
            | Peer::Beanstalkd => programs::find(self.program()).is_some(),
            // An older version does not know all of its settings.
            Peer::JetStream => tempfile::tempdir().is_ok_and(|directory| {
                let config = directory.path().join("nats.conf");
                let Some(program) = programs::find(self.program()) else { return false };
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
            Peer::RedisList | Peer::RedisStream | Peer::ValkeyList | Peer::ValkeyStream => {
                let mut command = programs::command(&programs::required(self.program())?);
                command.args(["--port", &port.to_string(), "--save", ""]);
                command.args(["--appendonly", if kept { "yes" } else { "no" }]);
                command
                    .args(["--appendfsync", if keeping == Keeping::Durable { "always" } else { "everysec" }]);
                command
            }
            Peer::Beanstalkd => {
                let mut command = programs::command(&programs::required(self.program())?);
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
                let mut command = programs::command(&programs::required(self.program())?);
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

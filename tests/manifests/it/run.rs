//! The program that a container runs, with its arguments, environment and settings file. They are parsed by
//! the agents' own definitions, so that they mean what the program takes them for.

use crate::mounts::place;
use crate::pod::{Pod, of_every_container};
use crate::{environment, image};
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};
use k8s_openapi::api::core::v1::Container;
use kit::exit::Fatal;
use kit::settings::Door;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The bound on the memory of a client of rng that reads nothing of its answer; rng's README has the figure.
const BYTES_OF_RNGS_CLIENT: u64 = 100 << 10;

#[derive(Debug, Default)]
pub struct Run {
    pub program: String,
    /// Addresses for clients.
    pub doors: Vec<SocketAddr>,
    /// Address for probes and metrics.
    pub admin: Option<SocketAddr>,
    pub drain_timeout: Duration,
    /// Memory that the settings let clients fill.
    pub memory_bytes: u64,
    /// Files that the program reads, without the settings file, which was read to build this.
    pub reads: Vec<PathBuf>,
    pub writes: Vec<PathBuf>,
    /// Environment variables that the program reads.
    pub variables: BTreeSet<String>,
    pub calls: Option<Call>,
    /// The script of `sh -c`.
    pub script: Option<String>,
    /// The value of `--until` of `queuectl run`.
    pub works_until: Option<String>,
}

impl Run {
    /// Lists every address that the program listens at.
    pub fn listens(&self) -> impl Iterator<Item = SocketAddr> {
        self.doors.iter().copied().chain(self.admin)
    }
}

/// The server that a client connects to.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    Url(String),
    Node { port: u16 },
}

/// Variables that tell a process its identity, see `kit::lifecycle::identity`.
const IDENTITY: [&str; 3] = ["NODE_NAME", "POD_NAME", "POD_NAMESPACE"];

pub fn of(pod: &Pod<'_>, container: &Container) -> Result<Run, String> {
    let environment = environment::of(pod, container)?;
    let mut variables = BTreeSet::new();
    let argv = argv(container, &environment, &mut variables)?;
    let program = Path::new(argv.first().ok_or("neither the image nor the container has a command")?);
    let program = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if image::of(container).is_some_and(|image| !image.programs.contains(&program)) {
        return Err(format!("the image has no {program}: images/stage lists what it has"));
    }
    let mut asked = Asked { pod, container, environment, argv };
    let mut run = match program.as_str() {
        "logd" => asked.logd(),
        "logcd" => asked.logcd(),
        "queued" => asked.queued(),
        "logsend" => asked.logsend(),
        "queuectl" => asked.queuectl(),
        "kvd" => asked.kvd(),
        "kvctl" => asked.kvctl(),
        "keygen" => asked.keygen(),
        "rng" => asked.rng(),
        "sh" => Ok(asked.script()),
        _ => Ok(Run::default()),
    }?;
    run.program = program;
    run.variables.extend(variables);
    Ok(run)
}

/// Runs `check` on every container and the program that it runs. A container whose settings are refused is
/// skipped here and fails the test of the settings.
#[track_caller]
pub fn of_every_run(check: impl Fn(&Pod<'_>, &Container, &Run) -> Vec<String>) {
    of_every_container(|pod, container| match of(pod, container) {
        Ok(run) => check(pod, container, &run),
        Err(_) => Vec::new(),
    });
}

/// Returns the words that the container runtime starts, with `$(NAME)` replaced as the kubelet does it.
fn argv(
    container: &Container,
    environment: &BTreeMap<String, String>,
    used: &mut BTreeSet<String>,
) -> Result<Vec<String>, String> {
    let image = image::of(container);
    let entrypoint = image.map(|image| image.entrypoint.clone()).unwrap_or_default();
    let by_default = image.filter(|_| container.command.is_none()).map(|image| image.command.clone());
    let mut words = container.command.clone().unwrap_or(entrypoint);
    words.extend(container.args.clone().or(by_default).unwrap_or_default());
    for word in &mut words {
        // A shell's own $(…) stays, as it is no variable's name.
        let names = word.split("$(").skip(1).filter_map(|rest| rest.split_once(')').map(|(name, _)| name));
        let names: Vec<String> = names.filter(|name| is_variable(name)).map(str::to_owned).collect();
        for name in names {
            let value = environment.get(&name);
            let value =
                value.ok_or_else(|| format!("$({name}) is used, and no variable of that name set"))?;
            *word = word.replace(&format!("$({name})"), value);
            used.insert(name);
        }
    }
    Ok(words)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// Returns the URL of the headless Service of a pod's name, such as `server-0.server`.
fn service_of_pod(server: &str) -> String {
    let (name, port) = server.split_once(':').unwrap_or((server, "80"));
    let service = name.split_once('.').map_or(name, |(_, service)| service);
    format!("http://{service}:{port}")
}

struct Asked<'a> {
    pod: &'a Pod<'a>,
    container: &'a Container,
    environment: BTreeMap<String, String>,
    argv: Vec<String>,
}

impl Asked<'_> {
    fn logd(&mut self) -> Result<Run, String> {
        let serve = self.load::<logd::settings::Flags>("LOGD")?.serve;
        let mut run = self.daemon(&logd::command(), [Door(Some(serve.listen))], serve.admin);
        run.drain_timeout = serve.common.drain_timeout;
        run.memory_bytes = serve.max_held;
        run.reads = serve.tls.paths();
        run.writes = vec![self.absolute(&serve.file)];
        Ok(run)
    }

    fn logcd(&mut self) -> Result<Run, String> {
        let serve = self.load::<logcd::settings::Flags>("LOGCD")?.serve;
        serve.level().map_err(|fatal| fatal.one_line())?;
        let admin = if serve.once { Door(None) } else { serve.admin };
        let mut run = self.daemon(&logcd::command(), [], admin);
        run.drain_timeout = serve.common.drain_timeout;
        run.reads.extend(serve.dir.iter().map(|dir| self.absolute(dir)));
        run.writes = serve.out.iter().chain(&serve.dir).take(1).map(|path| self.absolute(path)).collect();
        if serve.has_pods() {
            run.reads.push(self.absolute(&serve.pods));
            run.writes.push(self.absolute(&serve.pods_out));
        }
        Ok(run)
    }

    fn queued(&mut self) -> Result<Run, String> {
        let serve = self.load::<queued::settings::Flags>("QUEUED")?.serve;
        let http = Door(Some(serve.http));
        let admin = serve.admin.unwrap_or(http);
        let mut run = self.daemon(&queued::command(), [http, serve.line], admin);
        run.drain_timeout = serve.common.drain_timeout;
        // Requests that are still being received need memory on top.
        run.memory_bytes = serve.max_memory / 4 * 5;
        run.reads = [serve.tls.paths(), serve.tokens.iter().cloned().collect()].concat();
        run.writes =
            if queued::settings::is_memory(&serve) { vec![] } else { vec![self.absolute(&serve.data)] };
        Ok(run)
    }

    fn kvd(&mut self) -> Result<Run, String> {
        let serve = self.load::<kvd::settings::Flags>("KVD")?.serve;
        serve.check().map_err(|fatal| fatal.one_line())?;
        let http = Door(Some(serve.http));
        let mut run = self.daemon(&kvd::command(), [http], serve.admin.unwrap_or(http));
        run.drain_timeout = serve.common.drain_timeout;
        run.memory_bytes = serve.memory_bytes_max();
        run.reads = [serve.tls.paths(), serve.tokens.iter().cloned().collect()].concat();
        run.writes = serve.place.directory().map(|directory| self.absolute(directory)).into_iter().collect();
        Ok(run)
    }

    fn kvctl(&mut self) -> Result<Run, String> {
        let command = kvctl::command();
        let matches = self.matches(&command)?;
        let (task, of_task) = matches.subcommand().unwrap();
        let mut run = self.client(&command, &matches, &["KVD_URL"])?;
        run.reads.extend(matches.get_one::<PathBuf>("token_file").cloned());
        let url = match task {
            "watch-letters" => {
                let servers = of_task.get_many::<String>("servers").unwrap();
                let services: BTreeSet<String> = servers.map(|server| service_of_pod(server)).collect();
                let mut services = services.into_iter();
                match (services.next(), services.next()) {
                    (Some(service), None) => service,
                    other => return Err(format!("the servers are not pods of one Service: {other:?}")),
                }
            }
            _ => {
                let server = matches.get_one::<String>("server").or(self.environment.get("KVD_URL"));
                server.ok_or("no KVD_URL: a pod has no server of its own")?.clone()
            }
        };
        run.calls = Some(Call::Url(url));
        Ok(run)
    }

    fn rng(&mut self) -> Result<Run, String> {
        let flags = self.load::<rng::settings::Flags>("RNG")?;
        flags.check().map_err(|fatal| fatal.one_line())?;
        let http = Door(Some(flags.http));
        let mut run = self.daemon(&rng::command(), [http], flags.admin.unwrap_or(http));
        run.drain_timeout = flags.common.drain_timeout;
        run.memory_bytes = u64::from(flags.max_connections) * BYTES_OF_RNGS_CLIENT;
        let queue = flags.delay * u32::from(flags.max_connections);
        let left = flags.common.drain_timeout.saturating_sub(flags.linger);
        if flags.serial && queue > left {
            return Err(format!(
                "a drain ends before --serial has answered a request of each connection, which takes {queue:?}, \
                 not {left:?}: lower --max-connections"
            ));
        }
        Ok(run)
    }

    fn logsend(&mut self) -> Result<Run, String> {
        let command = logsend::command();
        let matches = self.matches(&command)?;
        let (to_file, spool) = (matches.get_one::<PathBuf>("to_file"), matches.get_one::<PathBuf>("spool"));
        let port = *matches.get_one::<u16>("port").unwrap();
        let mut run = self.client(&command, &matches, &["HOST_IP", "NODE_IP"])?;
        run.writes = [to_file, spool].into_iter().flatten().map(|path| self.absolute(path)).collect();
        if to_file.is_none() && matches.get_one::<String>("host").is_none() {
            if !self.environment.contains_key("HOST_IP") {
                return Err("logsend is not told of its node: set HOST_IP from status.hostIP".to_owned());
            }
            run.calls = Some(Call::Node { port });
        }
        Ok(run)
    }

    fn queuectl(&mut self) -> Result<Run, String> {
        let command = queuectl::command();
        let matches = self.matches(&command)?;
        let (task, of_task) = matches.subcommand().unwrap();
        let mut run = self.client(&command, &matches, &["QUEUE_URL"])?;
        let server = matches.get_one::<String>("server").or(self.environment.get("QUEUE_URL"));
        run.calls = Some(Call::Url(server.ok_or("no QUEUE_URL: a pod has no queue of its own")?.clone()));
        run.reads.extend(matches.get_one::<PathBuf>("token_file").cloned());
        match task {
            "push" => run.reads.extend(of_task.get_one::<PathBuf>("lines").cloned()),
            "run" => {
                let mut until = of_task.get_raw("until").unwrap();
                run.works_until = until.next().map(|word| word.to_string_lossy().into_owned());
                let words = of_task.get_many::<OsString>("command").unwrap();
                self.argv = words.map(|word| word.to_string_lossy().into_owned()).collect();
                run.variables.extend(self.command_of_worker()?);
            }
            _ => {}
        }
        Ok(run)
    }

    /// Returns the variables of the command that is run for each item.
    fn command_of_worker(&self) -> Result<BTreeSet<String>, String> {
        let program = &self.argv[0];
        if image::of(self.container).is_some_and(|image| !image.programs.contains(program)) {
            return Err(format!("queuectl runs {program}, which the image does not have"));
        }
        if program == "keygen" {
            return Ok(self.keygen()?.variables);
        }
        Ok(BTreeSet::new())
    }

    fn keygen(&self) -> Result<Run, String> {
        let command = keygen::command();
        self.matches(&command)?;
        Ok(Run { variables: variables(&command).collect(), ..Run::default() })
    }

    fn script(&self) -> Run {
        let script = self.argv.last().cloned();
        let words = script.iter().flat_map(|script| script.split('$').skip(1));
        let names =
            words.map(|rest| rest.split(|c: char| !c.is_ascii_uppercase() && c != '_').next().unwrap());
        Run { variables: names.map(str::to_owned).collect(), script, ..Run::default() }
    }

    fn daemon<const N: usize>(&self, command: &Command, doors: [Door; N], admin: Door) -> Run {
        let names = IDENTITY.map(str::to_owned).into_iter().chain(variables(command));
        let doors = doors.into_iter().filter_map(|Door(address)| address).collect();
        Run { doors, admin: admin.0, variables: names.collect(), ..Run::default() }
    }

    fn client(&self, command: &Command, matches: &ArgMatches, more: &[&str]) -> Result<Run, String> {
        let names = IDENTITY.iter().chain(more).map(|name| (*name).to_owned()).chain(variables(command));
        if matches.get_one::<PathBuf>("config").is_some() {
            return Err("a client with --config: let these tests read that file too".to_owned());
        }
        Ok(Run {
            drain_timeout: *matches.get_one::<Duration>("drain_timeout").unwrap(),
            reads: matches.get_one::<PathBuf>("tls_ca").into_iter().cloned().collect(),
            variables: names.collect(),
            ..Run::default()
        })
    }

    /// Loads a daemon's settings from flags, variables and the mounted file, with the function that the
    /// daemon calls.
    fn load<S: CommandFactory + FromArgMatches>(&self, prefix: &'static str) -> Result<S, String> {
        let mut argv = self.with_variables(&kit::settings::command::<S>(prefix));
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().join("settings.toml");
        let mut mounted = None;
        for i in 0..argv.len() {
            let (before, path) = match argv[i].strip_prefix("--config=") {
                Some(path) => ("--config=", path.to_owned()),
                None if i > 0 && argv[i - 1] == "--config" => ("", argv[i].clone()),
                None => continue,
            };
            std::fs::write(&here, self.mounted_text(&path)?).unwrap();
            argv[i] = format!("{before}{}", here.display());
            mounted = Some(path);
        }
        let argv = argv.into_iter().map(OsString::from);
        let settings = kit::settings::load::<S>(prefix, argv);
        let mounted = mounted.unwrap_or_default();
        let named = |fatal: Fatal| fatal.one_line().replace(&here.display().to_string(), &mounted);
        settings.map(|settings| settings.flags).map_err(named)
    }

    /// Returns the text of a file that a ConfigMap of the same rendering holds.
    fn mounted_text(&self, path: &str) -> Result<String, String> {
        let missing = || format!("--config {path}: no ConfigMap of this file is mounted there");
        let place = place(self.pod, self.container, Path::new(path)).ok_or_else(missing)?;
        let map = place.volume.and_then(|volume| volume.config_map.as_ref()).ok_or_else(missing)?;
        let namespace = self.pod.object.namespace.as_deref();
        let files = self.pod.rendering.config_map(namespace, &map.name).ok_or_else(missing)?;
        let text = files.into_iter().find(|(key, _)| *key == place.below);
        text.map(|(_, text)| text.to_owned()).ok_or_else(missing)
    }

    fn matches(&self, command: &Command) -> Result<ArgMatches, String> {
        command
            .clone()
            .try_get_matches_from(self.with_variables(command))
            .map_err(|e| e.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// Returns the command line with the variables as flags, because the parser would look for them in this
    /// test's environment.
    fn with_variables(&self, command: &Command) -> Vec<String> {
        let flags = command.get_arguments().filter_map(|arg| {
            let value = self.environment.get(arg.get_env()?.to_str()?)?;
            let long = arg.get_long()?;
            let flag = if arg.get_action().takes_values() {
                format!("--{long}={value}")
            } else {
                format!("--{long}")
            };
            (arg.get_action().takes_values() || value == "true").then_some(flag)
        });
        self.argv.iter().take(1).cloned().chain(flags).chain(self.argv.iter().skip(1).cloned()).collect()
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        let of_image = image::of(self.container).map(|image| image.directory.clone());
        let directory = self.container.working_dir.as_ref().map(PathBuf::from).or(of_image);
        directory.unwrap_or_else(|| "/".into()).join(path)
    }
}

fn variables(command: &Command) -> impl Iterator<Item = String> {
    let mut commands = vec![command];
    let mut names = Vec::new();
    while let Some(command) = commands.pop() {
        let of_arguments = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str());
        names.extend(of_arguments.map(str::to_owned));
        commands.extend(command.get_subcommands());
    }
    names.into_iter()
}

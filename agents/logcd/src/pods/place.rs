//! Parses the names below the pods directory: `NAMESPACE_POD_UID/CONTAINER/N.log`, and the logs that kubelet
//! has rotated.

use std::fmt;
use std::str::FromStr;

/// The longest name of a Kubernetes object.
const OBJECT_NAME_BYTES_MAX: usize = 253;
/// The longest name of a namespace or container.
const LABEL_BYTES_MAX: usize = 63;
/// The length of the time in a rotated log's name, such as `20261128-140512`.
const ROTATION_TIME_BYTES: usize = 15;

/// A pod's directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodDir {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
}

/// A container's directory in the directory of its pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerDir {
    pub pod: PodDir,
    pub container: String,
}

/// A log of a container: `N.log`, where N counts the restarts, or a rotated part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogName {
    pub restart: u32,
    pub kind: LogKind,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogKind {
    /// Kubelet renamed the log at this time. It compresses the log at the next rotation.
    Rotated { time: String, compressed: bool },
    /// The container runtime appends to the log.
    Live,
}

/// The error for a name that kubelet would not make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kubelet makes no such name")]
pub struct NotKubelets;

/// True if the text may name a namespace or a container.
pub fn is_label(text: &str) -> bool {
    is_object_name(text) && text.len() <= LABEL_BYTES_MAX && !text.contains('.')
}

fn is_object_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    (1..=OBJECT_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('.')
}

impl FromStr for PodDir {
    type Err = NotKubelets;

    fn from_str(text: &str) -> Result<PodDir, NotKubelets> {
        // None of the three parts can contain an underscore.
        let parts: Vec<&str> = text.split('_').collect();
        match parts[..] {
            [namespace, pod, uid] if is_label(namespace) && is_object_name(pod) && is_label(uid) => {
                Ok(PodDir { namespace: namespace.to_owned(), pod: pod.to_owned(), uid: uid.to_owned() })
            }
            _ => Err(NotKubelets),
        }
    }
}

impl fmt::Display for PodDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}", self.namespace, self.pod, self.uid)
    }
}

impl PodDir {
    pub fn container(&self, name: &str) -> Result<ContainerDir, NotKubelets> {
        match is_label(name) {
            true => Ok(ContainerDir { pod: self.clone(), container: name.to_owned() }),
            false => Err(NotKubelets),
        }
    }
}

impl FromStr for ContainerDir {
    type Err = NotKubelets;

    fn from_str(text: &str) -> Result<ContainerDir, NotKubelets> {
        let (pod, container) = text.split_once('/').ok_or(NotKubelets)?;
        pod.parse::<PodDir>()?.container(container)
    }
}

impl fmt::Display for ContainerDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pod, self.container)
    }
}

impl FromStr for LogName {
    type Err = NotKubelets;

    fn from_str(text: &str) -> Result<LogName, NotKubelets> {
        let (number, rest) = text.split_once(".log").ok_or(NotKubelets)?;
        let restart = number.parse().map_err(|_| NotKubelets)?;
        let kind = match rest.strip_prefix('.') {
            None if rest.is_empty() => LogKind::Live,
            None => return Err(NotKubelets),
            Some(rest) => {
                let (time, compressed) = match rest.strip_suffix(".gz") {
                    Some(time) => (time, true),
                    None => (rest, false),
                };
                let fits = |(at, b): (usize, u8)| if at == 8 { b == b'-' } else { b.is_ascii_digit() };
                if time.len() != ROTATION_TIME_BYTES || !time.bytes().enumerate().all(fits) {
                    return Err(NotKubelets);
                }
                LogKind::Rotated { time: time.to_owned(), compressed }
            }
        };
        let name = LogName { restart, kind };
        // Kubelet uses no other spelling, such as a leading zero.
        if name.to_string() == text { Ok(name) } else { Err(NotKubelets) }
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.log", self.restart)?;
        match &self.kind {
            LogKind::Live => Ok(()),
            LogKind::Rotated { time, compressed } => {
                write!(f, ".{time}{}", if *compressed { ".gz" } else { "" })
            }
        }
    }
}

impl LogName {
    pub fn is_live(&self) -> bool {
        self.kind == LogKind::Live
    }

    /// Returns the name before kubelet compressed the log.
    #[must_use]
    pub fn uncompressed(&self) -> LogName {
        let kind = match &self.kind {
            LogKind::Live => LogKind::Live,
            LogKind::Rotated { time, .. } => LogKind::Rotated { time: time.clone(), compressed: false },
        };
        LogName { restart: self.restart, kind }
    }

    pub fn is_compressed(&self) -> bool {
        matches!(self.kind, LogKind::Rotated { compressed: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_kubelet_are_understood() {
        let dir: ContainerDir = "shop_web-1.a_0a1b-2c/app".parse().unwrap();
        assert_eq!((&*dir.pod.namespace, &*dir.pod.pod, &*dir.container), ("shop", "web-1.a", "app"));
        assert!("3.log".parse::<LogName>().unwrap().is_live());
        assert!("3.log.20261128-140512.gz".parse::<LogName>().unwrap().is_compressed());
        assert!(!"3.log.20261128-140512".parse::<LogName>().unwrap().is_compressed());
    }

    #[test]
    fn other_names_are_rejected() {
        for name in ["shop_web", "a_b_c_d", "_b_c", "../x_b_c", "a/b_c_d", "Shop_web_1", "a_.._c", "a.b_c_d"]
        {
            assert!(name.parse::<PodDir>().is_err(), "{name}");
        }
        for name in ["a_b_c/", "a_b_c/..", "a_b_c/x/y", "a_b_c/."] {
            assert!(name.parse::<ContainerDir>().is_err(), "{name}");
        }
        for name in [
            "x.log",
            "01.log",
            "0.log.tmp",
            "0.log.20261128-140512.tmp",
            "0.logs",
            "0.log.",
            "-1.log",
            "+1.log",
        ] {
            assert!(name.parse::<LogName>().is_err(), "{name}");
        }
    }

    #[test]
    fn rotated_logs_come_before_the_live_one() {
        let order =
            ["0.log.20261128-140512.gz", "0.log.20261128-140513", "0.log", "1.log.20261128-140514", "1.log"];
        let names: Vec<LogName> = order.iter().map(|name| name.parse().unwrap()).collect();
        assert!(names.is_sorted());
    }

    proptest! {
        #[test]
        fn accepted_names_are_safe_and_spelled_in_one_way(text in "[a-z0-9._/-]{0,30}|[0-2]\\.log(\\.[0-9]{8}-[0-9]{6}(\\.gz)?)?|a_b\\.?_c/.{1,3}") {
            if let Ok(name) = text.parse::<LogName>() {
                prop_assert_eq!(name.to_string(), &text[..]);
            }
            if let Ok(dir) = text.parse::<ContainerDir>() {
                prop_assert_eq!(dir.to_string(), &text[..]);
                prop_assert!(text.split('/').count() == 2 && !text.split('/').any(|part| part.starts_with('.')));
            }
        }
    }
}

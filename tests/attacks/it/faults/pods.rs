//! logcd that archives container logs: each line is archived once, and every archive is whole at any moment.

use super::{Traced, ready_or_clear, under_each_fault};
use crate::container_logs::{all_lines, command, configure};
use std::path::Path;
use trial::Process;
use trial::kubelet::Kubelet;

fn scenario(directory: &Path, traced: &Traced) {
    let (pods, out) = (directory.join("pods"), directory.join("out"));
    std::fs::create_dir(&pods).unwrap();
    let mut kubelet = Kubelet::new(&pods);
    let (web, dns) = (kubelet.pod("shop", "web"), kubelet.pod("kube-system", "dns"));
    let mut paths = vec![pods.clone(), out.clone(), out.join("shop"), out.join("kube-system")];
    paths.extend([web, dns].map(|pod| kubelet.dir(pod)));
    paths.extend([".logcd-pods.checkpoint", ".logcd-pods.checkpoint.draft"].map(|name| out.join(name)));
    let mut command = traced.command("logcd", directory, &paths);
    configure(&mut command, &pods, &out);
    let agent = Process::start(&mut command);
    if ready_or_clear(&agent, directory) {
        // The rotations must not exceed the number of logs that kubelet keeps, because the agent may have
        // ended.
        for _ in 0..3 {
            kubelet.write(web, 200);
            kubelet.write(dns, 5);
            let lines = kubelet.written().len();
            agent.wait_until("the lines", || agent.is_over() || all_lines(&out).unwrap().len() >= lines);
            kubelet.rotate(web);
        }
        agent.kill9();
    }
    all_lines(&out).unwrap();
    let agent = Process::start_ready(&mut self::command(&pods, &out));
    let status = agent.terminate();
    assert!(status.success(), "{status}: {:?}", agent.last_events());
    kubelet.assert_archived(&out);
}

#[test]
fn logcd_archives_each_line_once_under_every_fault() {
    under_each_fault("logcd", scenario);
}

//! Processors, from `/proc/cpuinfo`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use farrier_api::agent::Cpu;

pub(super) fn read(root: &Path) -> Cpu {
    parse(&fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default())
}

fn parse(text: &str) -> Cpu {
    let mut cpu = Cpu::default();
    let (mut sockets, mut cores) = (BTreeSet::new(), BTreeSet::new());
    let mut threads: u32 = 0;
    for block in text.split("\n\n") {
        let field = |name: &str| {
            let fields = block.lines().filter_map(|line| line.split_once(':'));
            fields
                .filter(|(key, _)| key.trim() == name)
                .map(|(_, value)| value.trim().to_owned())
                .next()
        };
        if field("processor").is_none() {
            continue;
        }
        threads = threads.saturating_add(1);
        let socket = field("physical id").unwrap_or_default();
        // Kernels without topology number no cores; then each thread is one.
        let core = field("core id")
            .or_else(|| field("processor"))
            .unwrap_or_default();
        cores.insert((socket.clone(), core));
        sockets.insert(socket);
        if cpu.model.is_empty() {
            cpu.model = super::clean(field("model name").unwrap_or_default().as_bytes());
        }
    }
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    Cpu {
        sockets: count(sockets.len()),
        cores: count(cores.len()),
        threads,
        ..cpu
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn t20_threads_of_one_core_are_one_core() {
        let one = |thread: u32, socket: u32, core: u32| {
            format!(
                "processor\t: {thread}\nmodel name\t: A CPU\nphysical id\t: {socket}\ncore id\t\t: {core}\n\n"
            )
        };
        let text = one(0, 0, 0) + &one(1, 0, 0) + &one(2, 0, 1) + &one(3, 1, 0);
        let cpu = parse(&text);
        assert_eq!(
            (cpu.model.as_str(), cpu.sockets, cpu.cores, cpu.threads),
            ("A CPU", 2, 3, 4)
        );
        assert_eq!(parse("").threads, 0);
    }
}

//! Every fuzz target over its corpus, over damaged copies of it, and over random input.

use std::fs;
use std::path::Path;

use farrier_testkit::fuzz::TARGETS;
use farrier_testkit::random::Random;

const RANDOM_INPUTS: u64 = 10_000;
const DAMAGED_COPIES: usize = 40;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn t9_corpora_and_their_damaged_copies_keep_every_promise() {
    for (name, body) in TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name} has a corpus");
        let mut random = Random::new(1);
        for input in &inputs {
            body(input);
            for _ in 0..DAMAGED_COPIES {
                body(&damage(input, &mut random));
            }
        }
    }
}

#[test]
fn t9_random_input_keeps_every_promise() {
    for (name, body) in TARGETS {
        let mut random = Random::new(0xfa11);
        let inputs = corpus(name);
        for _ in 0..RANDOM_INPUTS {
            let length = usize::try_from(random.below(700)).unwrap();
            let mut input = random.bytes(length);
            // Random bytes alone hardly pass the first check; half of them go behind a real beginning.
            if random.chance(500) {
                let seed = &inputs[usize::try_from(random.below(inputs.len() as u64)).unwrap()];
                let keep = usize::try_from(random.below(seed.len() as u64 + 1)).unwrap();
                input.splice(0..0, seed[..keep].iter().copied());
            }
            body(&input);
        }
    }
}

#[test]
fn every_prefix_of_every_corpus_entry_keeps_every_promise() {
    for (name, body) in TARGETS {
        for input in corpus(name) {
            (0..input.len()).for_each(|end| body(&input[..end]));
        }
    }
}

/// Flips bits, cuts, doubles: what a bad wire and a bad mind do.
fn damage(input: &[u8], random: &mut Random) -> Vec<u8> {
    let mut damaged = input.to_vec();
    for _ in 0..=random.below(6) {
        if damaged.is_empty() {
            break;
        }
        let at = usize::try_from(random.below(damaged.len() as u64)).unwrap();
        match random.below(4) {
            0 => damaged[at] ^= 1 << random.below(8),
            1 => damaged[at] = random.next_u64().to_le_bytes()[0],
            2 => damaged.truncate(at),
            _ => {
                let tail = damaged[at..].to_vec();
                damaged.extend(tail);
            }
        }
    }
    damaged
}

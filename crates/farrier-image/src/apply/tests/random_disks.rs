//! Disks of random volumes with random maps: to capture and apply them changes nothing that is in use.

use super::*;

/// Sectors skipped before it, its sectors, block size as a shift of 512, and runs as gap and length.
type RandomVolume = (u64, u64, u32, Vec<(u64, u64)>);

#[derive(Clone, Debug)]
struct Layout {
    volumes: Vec<RandomVolume>,
    seed: u64,
}

/// Volumes of odd lengths with gaps, each with a random map.
fn layouts() -> impl Strategy<Value = Layout> {
    let runs = proptest::collection::vec((1..200_u64, 1..120_u64), 0..40);
    let volume = (0..9_u64, 1..3000_u64, 0..4_u32, runs);
    (proptest::collection::vec(volume, 1..4), any::<u64>())
        .prop_map(|(volumes, seed)| Layout { volumes, seed })
}

fn build(layout: &Layout) -> (MemDevice, capture::CapturePlan) {
    let mut at = MIB;
    let source = raw_disk(24, &noise(layout.seed, 23 << 20));
    let mut plan = capture::plan(&source, &options()).unwrap();
    let template = plan.volumes.pop().unwrap();
    plan.volumes.clear();
    for (skip, sectors, shift, runs) in &layout.volumes {
        let block = 512_u64 << shift;
        let (start, len) = (at + skip * 512, sectors * 512);
        let mut used: Vec<crate::manifest::Run> = vec![];
        let mut next = 0;
        for (gap, count) in runs {
            let first = next + gap;
            let end = (first + count).min(len.div_ceil(block));
            if first >= end {
                break;
            }
            used.push(crate::manifest::Run {
                first,
                count: end - first,
            });
            next = end;
        }
        // Some stretches of zeros, so that implied chunks occur.
        if sectors % 3 == 0 {
            source.write_zeroes_at(start, len / 2).unwrap();
        }
        plan.volumes.push(capture::PlannedVolume {
            start_bytes: start,
            len_bytes: len,
            block_bytes: block as u32,
            used,
            ..template.clone()
        });
        at = start + len;
    }
    (source, plan)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Capture then deploy or repair is the identity on used blocks, and leaves all others alone.
    #[test]
    fn capture_then_apply_is_the_identity_on_used_blocks(layout in layouts(), repair in any::<bool>()) {
        let (source, plan) = build(&layout);
        let store = MemStore::new();
        let captured = capture::capture(&source, &plan, &store, &Unwatched).unwrap();
        let manifest = store.open(&captured.signed);
        let target = MemDevice::with_content(&noise(layout.seed ^ 1, 24 << 20));
        let (before, wanted) = (content(&target), content(&source));
        let mode = if repair { Mode::Repair } else { Mode::Deploy };
        let applied = go(&target, &manifest, mode, &store).unwrap();
        prop_assert!(applied.proven);
        let mut expected = before;
        expected[..512].copy_from_slice(&wanted[..512]);
        for volume in &manifest.volumes {
            for run in &volume.used {
                let block = u64::from(volume.block_bytes);
                let start = (volume.start_bytes + run.first * block) as usize;
                let end = (volume.start_bytes + ((run.first + run.count) * block).min(volume.len_bytes)) as usize;
                expected[start..end].copy_from_slice(&wanted[start..end]);
            }
        }
        prop_assert!(content(&target) == expected);
    }
}

use proptest::prelude::*;

use super::*;
use crate::chunk::CHUNK_SIZE;
use crate::key::SigningKey;

const MIB: u64 = 1 << 20;

fn volume(start_bytes: u64, len_bytes: u64) -> Volume {
    let chunks = (0..len_bytes.div_ceil(CHUNK_SIZE as u64))
        .map(|i| (i % 3 != 1).then(|| ChunkId::of(&(start_bytes + i).to_le_bytes())))
        .collect();
    Volume {
        kind: VolumeKind::Ext,
        partition: Some(1),
        start_bytes,
        len_bytes,
        label: "root".to_owned(),
        fs_uuid: "b1b2".to_owned(),
        block_bytes: 4096,
        used: vec![Run { first: 0, count: 3 }, Run { first: 5, count: 9 }],
        chunks,
    }
}

fn gpt(entries: Vec<GptEntry>) -> Table {
    Table::Gpt {
        disk_guid: Uuid::from_u128(7),
        mbr: vec![0; 512],
        entries,
        entry_slots: 128,
        entry_size: 128,
        first_usable: 34,
    }
}

fn entry(slot: u32, first: u64, last: u64) -> GptEntry {
    GptEntry {
        slot,
        type_guid: Uuid::from_u128(1),
        guid: Uuid::from_u128(u128::from(slot)),
        first,
        last,
        attributes: 0,
        name: "root".encode_utf16().collect(),
    }
}

fn sample() -> Manifest {
    Manifest {
        format: FORMAT,
        image: "debian-12".parse().unwrap(),
        version: 3,
        created_ms: 1_700_000_000_000,
        source: "machine 7, disk S/N 12".to_owned(),
        disk: DiskShape {
            size_bytes: 64 * MIB,
            logical_sector: 512,
        },
        table: gpt(vec![entry(0, 2048, 4095), entry(1, 4096, 100_000)]),
        volumes: vec![volume(MIB, MIB), volume(2 * MIB, 40 * MIB + 4096)],
    }
}

#[test]
fn a_sealed_manifest_opens_and_equal_ones_have_one_root() {
    let key = SigningKey::generate().unwrap();
    let sealed = SignedManifest::seal(&sample(), &key).unwrap();
    let (manifest, root) = sealed.open(&[key.verifying_key()]).unwrap();
    assert_eq!(manifest, sample());
    assert_eq!(root, sample().root().unwrap());
    assert_eq!(sealed, SignedManifest::seal(&sample(), &key).unwrap());
}

#[test]
fn t14_any_flipped_bit_and_any_cut_is_refused() {
    let key = SigningKey::generate().unwrap();
    let sealed = SignedManifest::seal(&sample(), &key).unwrap();
    let trusted = [key.verifying_key()];
    for bit in 0..sealed.bytes.len() * 8 {
        let mut bytes = sealed.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // zstd has a few header bits without meaning; what opens must still be the signed content.
        if let Ok((manifest, _)) = (SignedManifest { bytes }).open(&trusted) {
            assert!(bit / 8 >= 128, "bit {bit} of the header is not proven");
            assert_eq!(manifest, sample());
        }
    }
    for len in 0..sealed.bytes.len() {
        assert!(
            SignedManifest {
                bytes: sealed.bytes[..len].to_vec()
            }
            .open(&trusted)
            .is_err()
        );
    }
}

#[test]
fn t14_another_key_is_refused_and_named() {
    let (key, other) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    );
    let sealed = SignedManifest::seal(&sample(), &key).unwrap();
    assert_eq!(
        sealed.open(&[other.verifying_key()]),
        Err(ManifestError::UnknownKey(key.verifying_key().id()))
    );
}

#[test]
fn t14_a_signature_does_not_cover_another_body() {
    let key = SigningKey::generate().unwrap();
    let mut older = sample();
    older.version = 2;
    let new = SignedManifest::seal(&sample(), &key).unwrap().bytes;
    let old = SignedManifest::seal(&older, &key).unwrap().bytes;
    let bytes = [&new[..128], &old[128..]].concat();
    assert_eq!(
        SignedManifest { bytes }.open(&[key.verifying_key()]),
        Err(ManifestError::WrongContent)
    );
}

#[test]
fn the_unsigned_form_is_bounded() {
    let frame = sample().encode().unwrap();
    assert_eq!(
        Manifest::decode(&frame, plain_limit(64 * MIB)).unwrap(),
        sample()
    );
    assert_eq!(Manifest::decode(&frame, 100), Err(ManifestError::TooLarge));
    let bomb = zstd::bulk::compress(&vec![0; 32 << 20], 3).unwrap();
    assert_eq!(
        Manifest::decode(&bomb, 1 << 20),
        Err(ManifestError::TooLarge)
    );
    assert!(plain_limit(u64::MAX) == MAX_PLAIN);
}

#[test]
fn a_newer_format_is_named() {
    let mut newer = sample();
    newer.format = 2;
    assert_eq!(newer.validate(), Err(InvalidManifest::Format(2)));
    let frame = newer.encode().unwrap();
    assert_eq!(
        Manifest::decode(&frame, MAX_PLAIN),
        Err(InvalidManifest::Format(2).into())
    );
}

#[test]
fn every_broken_rule_is_refused() {
    type Break = fn(&mut Manifest);
    let rows: &[(&str, Break)] = &[
        ("no disk", |m| m.disk.size_bytes = 0),
        ("odd disk", |m| m.disk.size_bytes += 1),
        ("sector size", |m| m.disk.logical_sector = 520),
        ("long source", |m| m.source = "x".repeat(2000)),
        ("empty volume", |m| m.volumes[0].len_bytes = 0),
        ("overlap", |m| m.volumes[1].start_bytes = 2 * MIB - 1),
        ("descending", |m| m.volumes.reverse()),
        ("outside", |m| m.volumes[1].start_bytes = 63 * MIB),
        ("overflow", |m| m.volumes[1].start_bytes = u64::MAX),
        ("chunk missing", |m| m.volumes[1].chunks.truncate(3)),
        ("chunk too many", |m| m.volumes[1].chunks.push(None)),
        ("block size", |m| m.volumes[0].block_bytes = 3000),
        ("no block size", |m| m.volumes[0].block_bytes = 0),
        ("empty run", |m| m.volumes[0].used[1].count = 0),
        ("touching runs", |m| m.volumes[0].used[1].first = 3),
        ("descending runs", |m| m.volumes[0].used.reverse()),
        ("run outside", |m| m.volumes[0].used[1].count = 252),
        ("run overflow", |m| m.volumes[0].used[1].count = u64::MAX),
        ("entry outside", |m| {
            m.table = gpt(vec![entry(0, 10, 1 << 40)])
        }),
        ("entry reversed", |m| m.table = gpt(vec![entry(0, 10, 9)])),
        ("slot outside", |m| m.table = gpt(vec![entry(128, 10, 11)])),
        ("slot twice", |m| {
            m.table = gpt(vec![entry(1, 10, 11), entry(1, 12, 13)])
        }),
        ("long name", |m| {
            let mut long = entry(0, 10, 11);
            long.name = vec![65; 37];
            m.table = gpt(vec![long]);
        }),
        ("no boot record", |m| {
            m.table = Table::Mbr { sectors: vec![] }
        }),
        ("boot record elsewhere", |m| {
            m.table = Table::Mbr {
                sectors: vec![(1, vec![0; 512])],
            }
        }),
        ("boot record twice", |m| {
            m.table = Table::Mbr {
                sectors: vec![(0, vec![0; 512]); 2],
            }
        }),
        ("boot record size", |m| {
            m.table = Table::Mbr {
                sectors: vec![(0, vec![0; 511])],
            }
        }),
    ];
    sample().validate().unwrap();
    for (name, change) in rows {
        let mut manifest = sample();
        change(&mut manifest);
        assert!(manifest.validate().is_err(), "{name}");
        assert!(
            SignedManifest::seal(&manifest, &SigningKey::generate().unwrap()).is_err(),
            "{name}"
        );
    }
}

#[test]
fn the_last_block_and_chunk_may_be_cut_short() {
    let mut manifest = sample();
    let volume = &mut manifest.volumes[1];
    volume.len_bytes = 40 * MIB + 512;
    volume.used = vec![Run {
        first: 10_240,
        count: 1,
    }];
    manifest.validate().unwrap();
}

#[test]
fn image_names_are_safe_in_paths_and_urls() {
    for good in ["a", "debian-12.5_x", "0", &"a".repeat(64)] {
        good.parse::<ImageName>().unwrap();
    }
    for bad in [
        "",
        ".",
        "..",
        "-a",
        "A",
        "a/b",
        "a b",
        "ä",
        "a\0",
        &"a".repeat(65),
    ] {
        assert_eq!(bad.parse::<ImageName>(), Err(ImageNameError), "{bad:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let key = SigningKey::generate().unwrap();
        let _ = Manifest::from_body(&bytes);
        let _ = Manifest::decode(&bytes, 1 << 20);
        let _ = SignedManifest { bytes }.open(&[key.verifying_key()]);
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(at in 0usize..400, value: u8) {
        let mut body = postcard::to_allocvec(&sample()).unwrap();
        let at = at % body.len();
        body[at] = value;
        if let Ok(manifest) = Manifest::from_body(&body) {
            prop_assert_eq!(postcard::to_allocvec(&manifest).unwrap(), body);
        }
    }
}

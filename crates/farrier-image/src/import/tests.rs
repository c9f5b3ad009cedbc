use super::*;
use crate::testing::{noise, run, sparse};

const MIB: u64 = 1 << 20;

/// A raw file of 20 MiB with noise, text, zeros and holes.
fn raw(dir: &Path) -> (PathBuf, Vec<u8>) {
    let path = dir.join("disk.raw");
    sparse(&path, 20 * MIB);
    let mut content = vec![0; 20 << 20];
    content[..3 << 20].copy_from_slice(&noise(1, 3 << 20));
    content[5 << 20..6 << 20].copy_from_slice(&b"some text ".repeat(1 << 17)[..1 << 20]);
    content[(20 << 20) - 700..].copy_from_slice(&noise(2, 700));
    std::fs::write(&path, &content).unwrap();
    (path, content)
}

fn read_all(disk: &dyn BlockDevice, step: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; disk.size() as usize];
    for (piece, at) in bytes.chunks_mut(step).zip((0..).step_by(step)) {
        disk.read_at(at, piece)?;
    }
    Ok(bytes)
}

#[test]
fn qcow2_of_every_kind_reads_as_qemu_img_wrote_it() {
    let dir = tempfile::tempdir().unwrap();
    let (source, content) = raw(dir.path());
    let target = dir.path().join("disk.qcow2");
    for options in [
        vec!["-o", "compat=0.10"],
        vec!["-o", "compat=1.1"],
        vec!["-c", "-o", "compat=0.10"],
        vec!["-c", "-o", "compression_type=zlib"],
        vec!["-c", "-o", "compression_type=zstd"],
        vec!["-o", "cluster_size=512"],
        vec!["-c", "-o", "cluster_size=2M,compression_type=zstd"],
        vec!["-o", "preallocation=metadata"],
    ] {
        let mut arguments = vec!["convert", "-O", "qcow2"];
        arguments.extend(&options);
        arguments.extend([source.to_str().unwrap(), target.to_str().unwrap()]);
        if run("qemu-img", &arguments).is_none() {
            return;
        }
        let disk = open(&target).unwrap();
        assert_eq!(disk.size(), 20 * MIB);
        assert!(read_all(&*disk, 99_991).unwrap() == content, "{options:?}");
        assert!(disk.write_at(0, b"no").is_err());
    }
    let disk = open(&source).unwrap();
    assert!(read_all(&*disk, 1 << 20).unwrap() == content);
}

#[test]
fn cve_2024_44082_files_that_point_to_others_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (source, _) = raw(dir.path());
    let (file, data) = (dir.path().join("a.qcow2"), dir.path().join("data"));
    let path = file.to_str().unwrap();
    let source = source.to_str().unwrap();
    let external = format!("data_file={},data_file_raw=on", data.display());
    let rows: [(&str, Vec<&str>); 3] = [
        (
            "backing file",
            vec!["create", "-f", "qcow2", "-F", "raw", "-b", source, path],
        ),
        (
            "another file",
            vec!["create", "-f", "qcow2", "-o", &external, path, "4M"],
        ),
        (
            "subclusters",
            vec!["create", "-f", "qcow2", "-o", "extended_l2=on", path, "4M"],
        ),
    ];
    for (word, arguments) in rows {
        if run("qemu-img", &arguments).is_none() {
            return;
        }
        let Err(error) = open(&file) else {
            panic!("{word} was opened")
        };
        let text = error.to_string();
        assert!(
            text.contains(word)
                && text.ends_with("convert it first: qemu-img convert -O qcow2 OLD NEW"),
            "{text}"
        );
    }
    run("qemu-img", &["create", "-f", "qcow2", path, "4M"]);
    let device = FileDevice::open(&file, Access::ReadWrite).unwrap();
    device.write_at(32, &2_u32.to_be_bytes()).unwrap();
    let Err(error) = open(&file) else {
        panic!("an encrypted file was opened")
    };
    assert!(error.to_string().contains("is encrypted"), "{error}");
}

/// Damage anywhere in header and tables ends in an error or in wrong bytes, never in a panic, a hang or
/// a large allocation.
#[test]
fn t16_hostile_qcow2_never_panics() {
    let dir = tempfile::tempdir().unwrap();
    let (source, _) = raw(dir.path());
    let file = dir.path().join("a.qcow2");
    let arguments = ["convert", "-c", "-O", "qcow2", "-o", "cluster_size=4096"];
    let paths = [source.to_str().unwrap(), file.to_str().unwrap()];
    if run("qemu-img", &[&arguments[..], &paths[..]].concat()).is_none() {
        return;
    }
    let good = std::fs::read(&file).unwrap();
    let hostile = dir.path().join("b.qcow2");
    for seed in 0..400_u64 {
        let mut bytes = good.clone();
        let random = noise(seed, 12);
        let limit = if seed % 2 == 0 { 120 } else { 40_000 };
        let at = usize::from(u16::from_le_bytes([random[0], random[1]])) % limit;
        let len = 1 + usize::from(random[2] % 8);
        bytes[at..at + len].copy_from_slice(&random[3..3 + len]);
        std::fs::write(&hostile, &bytes).unwrap();
        let Ok(disk) = open(&hostile) else { continue };
        let mut piece = vec![0; 65_536];
        for at in [
            0,
            MIB,
            5 * MIB,
            20 * MIB - 65_536,
            disk.size().saturating_sub(65_536),
        ] {
            let _ = disk.read_at(at, &mut piece);
        }
    }
}

#[test]
fn a_missing_file_says_what_to_do() {
    let Err(error) = open("/nonexistent/disk") else {
        panic!()
    };
    assert_eq!(
        error.to_string(),
        "cannot open /nonexistent/disk; check that it exists and may be read"
    );
}

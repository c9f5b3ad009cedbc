use std::io::Cursor;

use super::{ImportError, read_package};

/// A package as Debian's tools make it, with one file.
fn package(path: &str, content: &[u8]) -> Vec<u8> {
    let tarball = |path: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, path, content).unwrap();
        zstd::encode_all(Cursor::new(archive.into_inner().unwrap()), 1).unwrap()
    };
    let mut package = ar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: Vec<u8>| {
        package
            .append(
                &ar::Header::new(name.into(), bytes.len() as u64),
                Cursor::new(bytes),
            )
            .unwrap();
    };
    add("debian-binary", b"2.0\n".to_vec());
    add(
        "control.tar.zst",
        tarball("control", b"Package: ipxe\nVersion: 2.0.0+dfsg-5\n"),
    );
    add("data.tar.zst", tarball(path, content));
    package.into_inner().unwrap()
}

#[test]
fn a_known_program_gets_its_place_in_the_catalogue() {
    let found = read_package(Cursor::new(package("usr/lib/ipxe/snponly.efi", b"MZ"))).unwrap();
    let (loader, bytes) = &found[0];
    assert_eq!(
        (loader.id.as_str(), loader.version.as_str()),
        ("ipxe-snponly-x64", "2.0.0+dfsg-5")
    );
    assert_eq!(
        (loader.signer.as_deref(), bytes.as_slice()),
        (None, b"MZ".as_slice())
    );
}

#[test]
fn a_package_without_boot_programs_says_so() {
    let error = read_package(Cursor::new(package("usr/bin/true", b""))).unwrap_err();
    assert!(matches!(error, ImportError::NothingKnown { .. }), "{error}");
}

/// A package cut short is refused, unless only padding behind the last file is gone.
#[test]
fn a_cut_package_gives_nothing_but_whole_programs() {
    let whole = package("usr/lib/ipxe/snponly.efi", b"MZ");
    let programs = read_package(Cursor::new(&whole)).unwrap();
    for end in 0..whole.len() {
        if let Ok(found) = read_package(Cursor::new(&whole[..end])) {
            assert_eq!(found, programs, "cut at {end}");
        }
    }
    assert!(read_package(Cursor::new(&whole[..whole.len() / 2])).is_err());
}

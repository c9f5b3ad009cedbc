#![no_main]

use farrier_image::manifest::{Manifest, SignedManifest};

// What can be read is written again as the same bytes; a stranger's signature never opens.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::from_body(bytes) {
        assert_eq!(manifest.to_body().expect("it was read from a body"), bytes);
        let frame = manifest.encode().expect("it was read from a body");
        let again = Manifest::decode(&frame, bytes.len()).expect("it was just encoded");
        assert_eq!(again, manifest);
    }
    let _ = Manifest::decode(bytes, 1 << 20);
    let signed = SignedManifest {
        bytes: bytes.to_vec(),
    };
    assert!(signed.open(&[]).is_err());
});

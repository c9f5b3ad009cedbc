//! Style, script and picture of the page, compiled in. Their names carry a hash, so that browsers may keep
//! them for ever and never show an old one.

use std::sync::LazyLock;

/// One file.
#[derive(Debug)]
pub struct Asset {
    /// Path with the hash in it.
    pub path: String,
    pub media_type: &'static str,
    pub content: &'static str,
}

/// The assets that templates name.
#[derive(Debug)]
pub struct Assets {
    pub style: Asset,
    pub script: Asset,
    pub icon: Asset,
}

pub static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    style: asset(
        "farrier",
        "css",
        "text/css; charset=utf-8",
        include_str!("../../assets/farrier.css"),
    ),
    script: asset(
        "farrier",
        "js",
        "text/javascript; charset=utf-8",
        include_str!("../../assets/farrier.js"),
    ),
    icon: asset(
        "horseshoe",
        "svg",
        "image/svg+xml",
        include_str!("../../assets/horseshoe.svg"),
    ),
});

impl Assets {
    /// The asset of that name, as it stands in a URL after `/assets/`.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Asset> {
        [&self.style, &self.script, &self.icon]
            .into_iter()
            .find(|a| a.path.strip_prefix("/assets/") == Some(name))
    }
}

fn asset(stem: &str, extension: &str, media_type: &'static str, content: &'static str) -> Asset {
    let hash = blake3::hash(content.as_bytes()).to_hex();
    Asset {
        path: format!("/assets/{stem}-{}.{extension}", &hash[..12]),
        media_type,
        content,
    }
}

//! PXELINUX's configurations as they are, and against hostile values.

use std::time::Duration;

use proptest::prelude::*;

use super::tests::hostile;
use super::*;
use crate::medium::{Geometry, MediumKind, MediumName};

fn tftp(path: &str) -> Url {
    Url::new(&format!("tftp://10.0.0.1/{path}")).unwrap()
}

/// Keyword and rest of each line, as `readconfig.c` splits them: at any control character the line is over.
fn read(config: &str) -> Vec<(String, String)> {
    config
        .split(|c: char| c.is_ascii_control())
        .map(|line| line.trim_start_matches(' '))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .map(|(keyword, rest)| (keyword.to_ascii_uppercase(), rest.to_owned()))
        .collect()
}

fn keywords(config: &str) -> Vec<String> {
    read(config)
        .into_iter()
        .map(|(keyword, _)| keyword)
        .collect()
}

fn an_agent(arguments: &[Argument]) -> Result<String, NotRepresentable> {
    Page::Agent(AgentScript {
        kernel: &tftp("boot/agent/1/vmlinuz"),
        initrd: &tftp("boot/agent/1/agent.img"),
        arguments,
        local_disk: &LocalDisk::Exit,
    })
    .render(Language::Pxelinux)
}

fn a_menu(title: &str, script: &Url) -> Result<String, NotRepresentable> {
    Page::Menu(MenuScript {
        title: &Text::new(title)?,
        registered: false,
        default: MenuEntry::LocalDisk,
        timeout: Duration::from_secs(10),
        on_key: false,
        script,
        media: &[MenuMedium {
            name: MediumName::new("disk.img").unwrap(),
            kind: DISK,
            size: 20_000_000,
        }],
        local_disk: &LocalDisk::Exit,
    })
    .render(Language::Pxelinux)
}

#[test]
fn the_agent_and_otherwise_the_disk() {
    let arguments = [
        Argument::flag("quiet"),
        Argument::new("panic", "30").unwrap(),
    ];
    assert_eq!(
        an_agent(&arguments).unwrap(),
        "SAY Farrier: starting the agent.\n\
         DEFAULT agent\n\
         PROMPT 0\n\
         ONERROR local_disk\n\
         LABEL agent\n\
         LINUX 10.0.0.1::boot/agent/1/vmlinuz\n\
         INITRD 10.0.0.1::boot/agent/1/agent.img\n\
         APPEND quiet panic=30\n\
         LABEL local_disk\n\
         LOCALBOOT 0\n"
    );
}

#[test]
fn the_menu_ends_by_itself_and_asks_below_its_own_name() {
    let config = a_menu("pc-17", &tftp("boot/script/pxelinux/1")).unwrap();
    for line in [
        "SAY Farrier: pc-17",
        "DEFAULT local_disk",
        "TIMEOUT 100",
        "TOTALTIMEOUT 1800",
        "CONFIG 10.0.0.1::boot/script/pxelinux/1/register",
        "LABEL medium-disk.img",
        "CONFIG 10.0.0.1::boot/script/pxelinux/1/medium-disk.img",
    ] {
        assert!(config.lines().any(|l| l == line), "{line} in\n{config}");
    }
}

#[test]
fn every_reason_can_be_shown_by_pxelinux() {
    for reason in Reason::ALL {
        let page = Page::Message {
            reason,
            local_disk: &LocalDisk::Exit,
        };
        let config = page.render(Language::Pxelinux).unwrap();
        assert_eq!(
            read(&config)[0].1,
            format!("Farrier: {}", reason.sentence())
        );
    }
}

#[test]
fn what_pxelinux_cannot_hold_is_refused() {
    let long = "x".repeat(500);
    let many: Vec<_> = (0..4).map(|_| Argument::new("a", &long).unwrap()).collect();
    assert_eq!(an_agent(&many), Err(NotRepresentable::Length));
    let initrd = Argument::new("initrd", "x").unwrap();
    assert_eq!(an_agent(&[initrd]), Err(NotRepresentable::Syntax));
    for url in ["https://a/b", "tftp://a:1/b", "tftp://a/b::c"] {
        let page = Page::MemoryTest {
            program: &Url::new(url).unwrap(),
            local_disk: &LocalDisk::Exit,
        };
        assert!(page.render(Language::Pxelinux).is_err(), "{url}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn t4_no_text_becomes_a_pxelinux_line(value in hostile()) {
        if let Ok(config) = a_menu(&value, &tftp("s")) {
            prop_assert_eq!(keywords(&config), keywords(&a_menu("benign", &tftp("s")).unwrap()));
            prop_assert_eq!(read(&config)[0].1.clone(), format!("Farrier: {value}"));
        }
    }

    #[test]
    fn t4_no_argument_becomes_a_pxelinux_line(value in hostile()) {
        if let Some(config) = Argument::new("farrier.name", &value).ok().and_then(|a| an_agent(&[a]).ok()) {
            prop_assert_eq!(keywords(&config), keywords(&an_agent(&[]).unwrap()));
            let append = read(&config).into_iter().find(|(k, _)| k == "APPEND").unwrap().1;
            prop_assert_eq!(append, format!("farrier.name={value}"));
        }
    }

    #[test]
    fn t4_no_url_becomes_a_pxelinux_line(value in hostile()) {
        for url in [tftp("s").with_segment(&value), Url::new(&format!("tftp://{value}/x"))] {
            let Some(config) = url.ok().and_then(|url| a_menu("pc", &url).ok()) else { continue };
            prop_assert_eq!(keywords(&config), keywords(&a_menu("pc", &tftp("s")).unwrap()));
            let asked = read(&config).into_iter().find(|(k, _)| k == "CONFIG").unwrap().1;
            prop_assert_eq!(asked.split(' ').count(), 1);
        }
    }
}

const DISK: MediumKind = MediumKind::Disk(Geometry {
    cylinders: 20,
    heads: 16,
    sectors: 63,
});

#[test]
fn r2_memdisk_is_told_how_the_disk_counts_its_sectors() {
    let page = Page::Medium(MediumScript {
        image: &tftp("boot/media/disk.img"),
        kind: DISK,
        memdisk: Some(&tftp("boot/memdisk/memdisk")),
        local_disk: &LocalDisk::Exit,
    });
    assert_eq!(
        page.render(Language::Pxelinux).unwrap(),
        "SAY Farrier: starting a disk image.\n\
         DEFAULT medium\n\
         PROMPT 0\n\
         ONERROR local_disk\n\
         LABEL medium\n\
         LINUX 10.0.0.1::boot/memdisk/memdisk\n\
         INITRD 10.0.0.1::boot/media/disk.img\n\
         APPEND harddisk c=20 h=16 s=63 raw\n\
         LABEL local_disk\n\
         LOCALBOOT 0\n"
    );
}

//! GRUB's scripts as they are, and against hostile values, by a reader of its own.

use std::time::Duration;

use proptest::prelude::*;

use super::tests::hostile;
use super::*;
use crate::medium::{MediumKind, MediumName};

fn server(path: &str) -> Url {
    Url::new(&format!("http://10.0.0.1:8067/{path}")).unwrap()
}

/// The commands of a script, each a list of words with quotes taken off; a word that holds a live `$` keeps it
/// behind a NUL. Written from the manual's chapter on shell-like scripting, not from the writer.
fn read(script: &str) -> Option<Vec<Vec<String>>> {
    let mut commands = Vec::new();
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut letters = script.chars().peekable();
    let end_word = |word: &mut Option<String>, words: &mut Vec<String>| words.extend(word.take());
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '\'' => break,
                        inside => word.push(inside),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '"' => break,
                        '\\' => word.push(letters.next()?),
                        '$' => word.push_str("\0$"),
                        inside => word.push(inside),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(letters.next()?),
            '$' => word.get_or_insert_default().push_str("\0$"),
            '#' if word.is_none() => while letters.next_if(|c| *c != '\n').is_some() {},
            '\n' | ';' | '|' | '&' | '<' | '>' => {
                end_word(&mut word, &mut words);
                if !words.is_empty() {
                    commands.push(std::mem::take(&mut words));
                }
            }
            c if c.is_ascii_whitespace() => end_word(&mut word, &mut words),
            other => word.get_or_insert_default().push(other),
        }
    }
    end_word(&mut word, &mut words);
    if !words.is_empty() {
        commands.push(words);
    }
    Some(commands)
}

/// What decides what the script does: the first word of each command and how many there are.
fn shape(script: &str) -> Vec<(String, usize)> {
    let commands = read(script).unwrap_or_else(|| panic!("a quote stays open:\n{script}"));
    commands
        .into_iter()
        .map(|words| (words[0].clone(), words.len()))
        .collect()
}

fn an_agent(arguments: &[Argument]) -> Result<String, NotRepresentable> {
    Page::Agent(AgentScript {
        kernel: &server("boot/agent/1/vmlinuz"),
        initrd: &server("boot/agent/1/agent.img"),
        arguments,
        local_disk: &LocalDisk::Exit,
    })
    .render(Language::Grub)
}

fn a_menu(title: &str, on_key: bool) -> Result<String, NotRepresentable> {
    Page::Menu(MenuScript {
        title: &Text::new(title)?,
        registered: false,
        default: MenuEntry::LocalDisk,
        timeout: Duration::from_secs(10),
        on_key,
        script: &server("boot/script/grub/x86_64-efi/52:54:00:77:00:01"),
        media: MEDIA,
        local_disk: &LocalDisk::Exit,
    })
    .render(Language::Grub)
}

#[test]
fn the_first_script_asks_by_processor_and_hardware_address() {
    let tftp = Url::new("tftp://10.0.0.1/boot/script/grub").unwrap();
    let script = grub_first(&tftp, &server("boot/script/grub")).unwrap();
    for line in [
        "set farrier='(tftp,10.0.0.1)/boot/script/grub'",
        "set farrier='(http,10.0.0.1:8067)/boot/script/grub'",
        "configfile $farrier/$grub_cpu-$grub_platform/$mac",
    ] {
        assert!(script.lines().any(|l| l == line), "{line} in\n{script}");
    }
}

#[test]
fn the_agent_and_then_the_disk() {
    let script = an_agent(&[
        Argument::flag("quiet"),
        Argument::new("farrier.server", "https://10.0.0.1:8444").unwrap(),
    ])
    .unwrap();
    let linux = "if linux '(http,10.0.0.1:8067)/boot/agent/1/vmlinuz' 'quiet' \
                 'farrier.server=https://10.0.0.1:8444'";
    assert!(script.lines().any(|l| l == linux), "{script}");
    assert!(script.ends_with("}\nfarrier_disk\n"), "{script}");
}

#[test]
fn the_menu_asks_again_below_its_own_name() {
    let script = a_menu("pc-17", true).unwrap();
    let ask =
        "configfile '(http,10.0.0.1:8067)/boot/script/grub/x86_64-efi/52:54:00:77:00:01/register'";
    assert!(script.lines().any(|l| l == ask), "{script}");
    assert!(
        script.contains("set timeout_style=hidden\nset timeout=3\n"),
        "{script}"
    );
    let always = a_menu("pc-17", false).unwrap();
    assert!(
        always.contains("set timeout_style=menu\nset timeout=10\n"),
        "{always}"
    );
}

#[test]
fn every_reason_can_be_shown_by_grub() {
    for reason in Reason::ALL {
        let page = Page::Message {
            reason,
            local_disk: &LocalDisk::Exit,
        };
        let script = page.render(Language::Grub).unwrap();
        let shown = &read(&script).unwrap()[0];
        assert_eq!(
            shown,
            &["echo", "Farrier:", reason.sentence()],
            "{reason:?}"
        );
    }
}

#[test]
fn what_grub_cannot_hold_is_refused() {
    for value in ["a\\b", "C:\\x"] {
        let argument = Argument::new("farrier.name", value).unwrap();
        assert_eq!(
            an_agent(&[argument]),
            Err(NotRepresentable::Syntax),
            "{value}"
        );
        assert_eq!(
            a_menu(value, true),
            Err(NotRepresentable::Syntax),
            "{value}"
        );
    }
    for url in [
        "https://10.0.0.1/x",
        "http://a,b/x",
        "http://a)b/x",
        "http://[fe80::1]/x",
    ] {
        let url = Url::new(url).unwrap();
        assert!(grub_first(&url, &url).is_err(), "{url:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn t4_no_text_becomes_a_grub_command(value in hostile(), on_key: bool) {
        if let Ok(script) = a_menu(&value, on_key) {
            prop_assert_eq!(shape(&script), shape(&a_menu("benign", on_key).unwrap()));
            if on_key {
                let shown = read(&script).unwrap().into_iter().find(|c| c[0] == "echo" && c.len() == 3);
                prop_assert_eq!(shown.unwrap()[2].clone(), value, "what is shown is what was said");
            }
        }
    }

    #[test]
    fn t4_no_argument_becomes_a_grub_command(value in hostile()) {
        if let Some(script) = Argument::new("farrier.name", &value).ok().and_then(|a| an_agent(&[a]).ok()) {
            let benign = an_agent(&[Argument::new("farrier.name", "benign").unwrap()]).unwrap();
            prop_assert_eq!(shape(&script), shape(&benign));
            let linux = read(&script).unwrap().into_iter().find(|c| c[..2] == ["if", "linux"]).unwrap();
            prop_assert_eq!(linux[3].clone(), format!("farrier.name={value}"));
        }
    }

    #[test]
    fn t4_no_url_becomes_a_grub_command(value in hostile()) {
        for url in [server("s").with_segment(&value), Url::new(&format!("http://{value}/x"))] {
            let Some(script) = url.ok().and_then(|url| grub_first(&url, &url).ok()) else { continue };
            prop_assert_eq!(shape(&script), shape(&grub_first(&server("s"), &server("s")).unwrap()));
        }
    }
}

/// Behind the four entries that every menu has.
const MEDIA: &[MenuMedium] = &[];

#[test]
fn r3_media_are_entries_and_memdisk_takes_the_image_for_its_ram_disk() {
    let name = MediumName::new("dos.img").unwrap();
    let media = [MenuMedium {
        name,
        kind: MediumKind::Floppy,
        size: 1_474_560,
    }];
    let menu = Page::Menu(MenuScript {
        title: &Text::new("pc-17").unwrap(),
        registered: false,
        default: MenuEntry::Medium(name),
        timeout: Duration::from_secs(10),
        on_key: false,
        script: &server("boot/script/grub/i386-pc/1"),
        media: &media,
        local_disk: &LocalDisk::Exit,
    });
    let menu = menu.render(Language::Grub).unwrap();
    for line in [
        "set default='medium:dos.img'",
        "menuentry 'Start dos.img (floppy, 1474 KB)' --hotkey '1' --id 'medium:dos.img' {",
        "configfile '(http,10.0.0.1:8067)/boot/script/grub/i386-pc/1/medium-dos.img'",
    ] {
        assert!(menu.lines().any(|l| l == line), "{line} in\n{menu}");
    }
    let memdisk = server("boot/memdisk/memdisk");
    let start = |memdisk| {
        Page::Medium(MediumScript {
            image: &server("boot/media/dos.img"),
            kind: MediumKind::Floppy,
            memdisk,
            local_disk: &LocalDisk::Exit,
        })
        .render(Language::Grub)
        .unwrap()
    };
    let script = start(Some(&memdisk));
    for line in [
        "if linux16 '(http,10.0.0.1:8067)/boot/memdisk/memdisk' 'floppy' 'raw'",
        "if initrd16 '(http,10.0.0.1:8067)/boot/media/dos.img'",
    ] {
        assert!(script.lines().any(|l| l == line), "{line} in\n{script}");
    }
    assert!(start(None).contains("let iPXE be the first loader"));
}

/// Told to leave the disk to the firmware, GRUB looks for none itself, whatever else was on the page.
#[test]
fn t21_the_disk_is_left_to_the_firmware() {
    let pages = [
        Page::LocalDisk(&LocalDisk::Firmware),
        Page::Message {
            reason: Reason::NotApproved,
            local_disk: &LocalDisk::Firmware,
        },
    ];
    for page in pages {
        let script = page.render(Language::Grub).unwrap();
        let leaves = "function farrier_disk {\n  exit\n}\nfarrier_disk\n";
        assert!(script.ends_with(leaves), "{script}");
        assert!(!script.contains("chainloader"), "{script}");
    }
}

//! Scripts as they are, and against hostile values.

use proptest::prelude::*;

use super::parser::{self, Command};
use super::*;
use crate::medium::{Geometry, MediumKind, MediumName};

fn url(text: &str) -> Url {
    Url::new(text).unwrap()
}

fn server(path: &str) -> Url {
    url(&format!("http://10.0.0.1:8080/{path}"))
}

fn commands(script: &str) -> Vec<Command> {
    parser::parse(script).unwrap_or_else(|| panic!("not a script:\n{script}"))
}

/// Name, joint and label of a command.
type Bone = (String, Option<String>, Option<String>);

/// Command names, joints, labels and settings: all that decides what the script does.
fn shape(script: &str) -> (Vec<Bone>, Vec<String>) {
    let commands = commands(script);
    let settings = parser::settings(&commands);
    (
        commands
            .into_iter()
            .map(|c| (c.name().to_owned(), c.joined_by, c.label))
            .collect(),
        settings,
    )
}

#[test]
fn the_first_script() {
    let script = first(&server("boot/script"));
    assert_eq!(
        script,
        "#!ipxe\n\
         ifopen ||\n\
         isset ${ip} || dhcp || goto failed\n\
         chain --replace --autofree http://10.0.0.1:8080/boot/script?mac=${netX/mac:hexhyp}&uuid=${uuid}\
         &platform=${platform}&buildarch=${buildarch}&version=${version:uristring}\
         &serial=${serial:uristring}&manufacturer=${manufacturer:uristring}&product=${product:uristring} \
         || goto failed\n\
         :failed\n\
         echo Farrier: the server did not answer. The machine goes on to its next boot entry.\n\
         sleep 5\n\
         exit\n"
    );
}

#[test]
fn z16_the_answer_names_a_script_and_asks_for_another_once() {
    let script = named(&server("boot/named/a1b2"), &server("boot/script"));
    let (head, tail) = script
        .split_once("boot/script?mac=${netX/mac:hexhyp}&")
        .unwrap();
    assert_eq!(
        head,
        "#!ipxe\n\
         chain --replace --autofree http://10.0.0.1:8080/boot/named/a1b2 || goto again\n\
         :again\n\
         isset ${asked-again} && goto failed ||\n\
         set asked-again yes\n\
         chain --replace --autofree http://10.0.0.1:8080/"
    );
    let (_, end) = tail.split_once(" || goto failed\n:failed\n").unwrap();
    assert!(end.ends_with("exit\n"), "{end}");
    commands(&script);
}

#[test]
fn the_agent() {
    let arguments = [
        Argument::flag("quiet"),
        Argument::new("farrier.server", "https://10.0.0.1:8443").unwrap(),
        Argument::new("farrier.token", "a1b2").unwrap(),
    ];
    let script = agent(&AgentScript {
        kernel: &server("agent/x86_64/vmlinuz"),
        initrd: &server("agent/x86_64/initrd"),
        arguments: &arguments,
        local_disk: &LocalDisk::Sanboot,
    });
    assert_eq!(
        script,
        "#!ipxe\n\
         echo Farrier: starting the agent.\n\
         kernel http://10.0.0.1:8080/agent/x86_64/vmlinuz initrd=agent.img quiet \
         farrier.server=https://10.0.0.1:8443 farrier.token=a1b2 || goto failed\n\
         initrd --name agent.img http://10.0.0.1:8080/agent/x86_64/initrd || goto failed\n\
         boot || goto failed\n\
         :failed\n\
         echo Farrier: the agent could not be loaded. The local disk starts instead.\n\
         sleep 5\n\
         sanboot --no-describe --drive 0x80 || exit\n"
    );
}

#[test]
fn the_question_for_a_code() {
    let ask = |again| {
        ask_code(&CodeScript {
            entry: MenuEntry::MemoryTest,
            again,
            script: &server("boot/script"),
            local_disk: &LocalDisk::Sanboot,
        })
    };
    let first = ask(false);
    let asked = "read code || goto local_disk\n\
         isset ${code} || goto local_disk\n\
         chain --replace --autofree http://10.0.0.1:8080/boot/script?choice=memory_test&code=${code:uristring}&mac=";
    assert!(first.contains(asked), "{first}");
    assert!(
        first.ends_with(":local_disk\nsanboot --no-describe --drive 0x80 || exit\n"),
        "{first}"
    );
    assert!(!first.contains("is wrong") && ask(true).contains("is wrong"));
    commands(&first);
}

fn a_menu(title: &Text, default: MenuEntry, on_key: bool) -> String {
    menu(&MenuScript {
        title,
        registered: true,
        default,
        timeout: Duration::from_secs(10),
        on_key,
        script: &server("boot/script"),
        media: &[MenuMedium {
            name: rescue(),
            kind: MediumKind::Cd,
            size: 30_000_000,
        }],
        local_disk: &LocalDisk::Exit,
    })
}

fn rescue() -> MediumName {
    MediumName::new("rescue-1.iso").unwrap()
}

#[test]
fn the_menu() {
    let title = Text::new("pc-17").unwrap();
    let always = a_menu(&title, MenuEntry::LocalDisk, false);
    assert!(!always.contains("Register this machine"), "{always}");
    for line in [
        "menu Farrier: pc-17",
        "item --key l local_disk Start from the local disk",
        "item --key r register Start the agent and take the inventory",
        "item --key 1 medium:rescue-1.iso Start rescue-1.iso (CD, 30 MB)",
        "choose --default local_disk --timeout 10000 chosen || goto local_disk",
        "goto ${chosen}",
    ] {
        assert!(always.lines().any(|l| l == line), "{line} in\n{always}");
    }
    for choice in ["register", "memory_test", "medium:rescue-1.iso"] {
        let ask = format!(
            ":{choice}\nchain --replace --autofree http://10.0.0.1:8080/boot/script?choice={choice}&mac="
        );
        assert!(always.contains(&ask), "{ask} in\n{always}");
    }
    assert!(!always.contains("prompt"));
    let on_key = a_menu(&title, MenuEntry::MemoryTest, true);
    let second = on_key.lines().nth(1).unwrap();
    assert_eq!(
        second,
        "prompt --key m --timeout 3000 Farrier: press m for the boot menu. || goto memory_test"
    );
}

#[test]
fn every_jump_has_its_label() {
    let title = Text::new("pc-17").unwrap();
    let program = LocalDisk::Program(server("local.efi"));
    let mut scripts = vec![
        medium_by_name(
            &server("dos.img"),
            MediumKind::Floppy,
            Some(&server("memdisk")),
        ),
        medium_by_name(&server("cd.iso"), MediumKind::Cd, None),
        a_medium(Some(&server("memdisk"))),
        a_medium(None),
        first(&server("s")),
        memory_test(&server("memtest"), &program),
        local_disk(&program),
        local_disk(&grub_for_the_disk()),
    ];
    for default in [
        MenuEntry::LocalDisk,
        MenuEntry::MemoryTest,
        MenuEntry::Register,
        MenuEntry::Medium(rescue()),
    ] {
        scripts.extend([
            a_menu(&title, default, false),
            a_menu(&title, default, true),
        ]);
    }
    for script in scripts {
        let commands = commands(&script);
        let labels: Vec<_> = commands.iter().filter_map(|c| c.label.as_deref()).collect();
        for jump in commands
            .iter()
            .filter(|c| c.name() == "goto" && c.words[1] != "${chosen}")
        {
            assert!(
                labels.contains(&jump.words[1].as_str()),
                "{} in\n{script}",
                jump.words[1]
            );
        }
        for item in commands.iter().filter(|c| c.name() == "item") {
            let at = if item.words[1] == "--key" { 3 } else { 1 };
            assert!(
                labels.contains(&item.words[at].as_str()),
                "{} in\n{script}",
                item.words[at]
            );
        }
    }
}

fn grub_for_the_disk() -> LocalDisk {
    LocalDisk::Grub {
        program: server("boot/local-disk/grub/grubx64.efi"),
        next_server: Ipv4Addr::new(10, 0, 0, 1),
    }
}

#[test]
fn t11_every_way_to_the_disk_ends_in_exit() {
    for (method, expected) in [
        (LocalDisk::Exit, "exit"),
        (LocalDisk::Firmware, "exit 1"),
        (
            LocalDisk::Sanboot,
            "sanboot --no-describe --drive 0x80 || exit",
        ),
        (
            LocalDisk::SanbootFile,
            "sanboot --no-describe --drive 0 || sanboot --no-describe --drive 0x80 || exit 1",
        ),
        (
            LocalDisk::Program(server("local.efi")),
            "chain --autofree http://10.0.0.1:8080/local.efi || exit",
        ),
        (
            grub_for_the_disk(),
            "set netX/next-server 10.0.0.1 ||\n\
             chain --autofree http://10.0.0.1:8080/boot/local-disk/grub/grubx64.efi || exit 1",
        ),
    ] {
        assert_eq!(local_disk(&method), format!("#!ipxe\n{expected}\n"));
        let told = message(Reason::NotApproved, &method);
        assert!(
            told.starts_with("#!ipxe\necho Farrier: The machine waits for approval"),
            "{told}"
        );
        assert!(told.ends_with(&format!("{expected}\n")), "{told}");
    }
}

#[test]
fn every_reason_can_be_shown() {
    for reason in Reason::ALL {
        assert!(Text::new(reason.sentence()).is_ok(), "{reason:?}");
        let (shape, settings) = shape(&message(reason, &LocalDisk::Exit));
        let names: Vec<_> = shape.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(
            (names, settings),
            (vec!["echo", "sleep", "exit"], vec![]),
            "{reason:?}"
        );
    }
}

#[test]
fn t4_hostile_texts_are_refused() {
    use NotRepresentable::{Character, Length, Syntax};
    for (text, expected) in [
        ("", Length),
        ("pc\nreboot", Character),
        ("pc\rreboot", Character),
        ("pc\u{b}|| reboot", Character),
        ("pc\0", Character),
        ("PC ünü", Character),
        ("pc\u{2028}reboot", Character),
        ("pc || reboot", Syntax),
        ("pc && reboot", Syntax),
        ("pc ; reboot", Syntax),
        ("pc # rest", Syntax),
        ("#", Syntax),
        ("pc ${net0/ip}", Syntax),
        ("a${", Syntax),
        ("ends in \\", Syntax),
        ("--help", Syntax),
        ("two  spaces", Syntax),
        (" ahead", Syntax),
        ("behind ", Syntax),
    ] {
        assert_eq!(Text::new(text), Err(expected), "{text:?}");
    }
    assert_eq!(Text::new(&"x".repeat(257)), Err(Length));
    for harmless in [
        "Latitude 5400",
        "a||b",
        "a#b",
        "it's \"quoted\"",
        "100$ {x}",
        "a;b",
        "C:\\x y",
        "||| &&&",
    ] {
        assert!(Text::new(harmless).is_ok(), "{harmless}");
    }
}

#[test]
fn t4_hostile_arguments_and_urls_are_refused() {
    for value in ["", "a b", "a\tb", "a\nb", "a\"b", "a'b", "${x}", "a\\", "é"] {
        assert!(Argument::new("name", value).is_err(), "{value:?}");
    }
    assert_eq!(
        Argument::new("name", "a=b,c#d||e").unwrap().as_str(),
        "name=a=b,c#d||e"
    );
    for text in [
        "",
        "ftp://a/b",
        "http://",
        "http:///x",
        "http://a b",
        "http://a/\n",
        "http://a/${x}",
        "http://a/#x",
        "http://a/é",
        "http://a/\\",
        "javascript:alert(1)",
    ] {
        assert!(Url::new(text).is_err(), "{text:?}");
    }
    assert!(Url::new("http://[fe80::1]:80/a%20b?x=1&y=2").is_ok());
}

#[test]
fn urls_carry_any_text() {
    let url = server("x")
        .with_query("name", "a b&c=ü#${x}")
        .unwrap()
        .with_query("n", "")
        .unwrap();
    assert_eq!(
        url.as_str(),
        "http://10.0.0.1:8080/x?name=a%20b%26c%3D%C3%BC%23%24%7Bx%7D&n="
    );
    assert_eq!(
        server("x").with_segment("../a/b").unwrap().as_str(),
        "http://10.0.0.1:8080/x/..%2Fa%2Fb"
    );
    assert_eq!(
        server("x").with_query("n", &"é".repeat(400)),
        Err(NotRepresentable::Length)
    );
}

/// Any text, with what is special to iPXE far more often than chance has it.
pub(super) fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => any::<char>().prop_map(String::from),
        3 => "[ -~]{1,6}",
        4 => prop::sample::select(vec![
            " ", "\n", "\r\n", "\r", "\t", "\u{b}", "\u{c}", "\0", "||", "&&", ";", " || ", " && ", " ; ", "${", "}",
            "${x}", "$", "{", "#", " #", "\\", "\\\n", ":", "\n:failed ", "--", "-", "\"", "'", "exit", "reboot",
            "\u{85}", "\u{2028}", "\u{a0}", "##params", "=",
        ])
        .prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn t4_no_text_becomes_a_command(value in hostile()) {
        if let Ok(text) = Text::new(&value) {
            let benign = Text::new("benign").unwrap();
            let script = a_menu(&text, MenuEntry::LocalDisk, true);
            prop_assert_eq!(shape(&script), shape(&a_menu(&benign, MenuEntry::LocalDisk, true)));
            let shown = commands(&script).into_iter().find(|c| c.name() == "menu").unwrap();
            prop_assert_eq!(shown.words[2..].join(" "), value, "what is shown is what was said");
        }
    }

    #[test]
    fn t4_no_argument_becomes_a_command(value in hostile()) {
        if let Ok(argument) = Argument::new("farrier.name", &value) {
            let of = |argument: Argument| agent(&AgentScript {
                kernel: &server("k"),
                initrd: &server("i"),
                arguments: &[argument, Argument::flag("quiet")],
                local_disk: &LocalDisk::Exit,
            });
            let script = of(argument);
            prop_assert_eq!(shape(&script), shape(&of(Argument::new("farrier.name", "benign").unwrap())));
            let kernel = commands(&script).into_iter().find(|c| c.name() == "kernel").unwrap();
            prop_assert_eq!(&kernel.words[3], &format!("farrier.name={value}"));
            prop_assert_eq!(kernel.words.len(), 5);
        }
    }

    #[test]
    fn t4_no_url_becomes_a_command(value in hostile()) {
        let built = [
            server("s").with_query("name", &value),
            server("s").with_segment(&value),
            Url::new(&format!("http://10.0.0.1/{value}")),
        ];
        for url in built.into_iter().flatten() {
            let script = first(&url);
            let chain = commands(&script).into_iter().find(|c| c.name() == "chain").unwrap();
            prop_assert!(chain.words[3].starts_with(url.as_str()));
            prop_assert_eq!(chain.words.len(), 4);
            let (bones, _) = shape(&script);
            prop_assert_eq!(bones, shape(&first(&server("s"))).0);
        }
    }
}

fn a_medium(memdisk: Option<&Url>) -> String {
    let disk = MediumKind::Disk(Geometry {
        cylinders: 20,
        heads: 16,
        sectors: 63,
    });
    let page = Page::Medium(MediumScript {
        image: &server("boot/media/disk.img"),
        kind: disk,
        memdisk,
        local_disk: &LocalDisk::Sanboot,
    });
    page.render(Language::Ipxe).unwrap()
}

#[test]
fn r3_a_disk_image_is_kept_in_memory_or_read_over_the_network() {
    let memory = a_medium(Some(&server("memdisk")));
    let kernel = "kernel http://10.0.0.1:8080/memdisk harddisk c=20 h=16 s=63 raw || goto failed";
    assert!(memory.lines().any(|l| l == kernel), "{memory}");
    let network = a_medium(None);
    let sanboot = "sanboot --no-describe http://10.0.0.1:8080/boot/media/disk.img || goto failed";
    assert!(network.lines().any(|l| l == sanboot), "{network}");
}

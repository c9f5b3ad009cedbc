//! Menus of U-Boot and s390x as they are, and against hostile values.

use proptest::prelude::*;

use super::tests::hostile;
use super::*;

fn refused(language: Language) -> String {
    Page::Message {
        reason: Reason::NoAgentForMachine,
        local_disk: &LocalDisk::Exit,
    }
    .render(language)
    .unwrap()
}

#[test]
fn u_boot_shows_the_reason_as_its_title_and_goes_on() {
    assert_eq!(
        refused(Language::UBoot),
        "menu title Farrier: Network boot works, but the agent is for x86_64 PCs only: there is none for this machine.\n\
         timeout 50\n\
         default local_disk\n\
         label local_disk\n\
         menu label Go on to the local disk\n\
         localboot 1\n"
    );
}

#[test]
fn s390_shows_the_reason_as_its_label() {
    assert_eq!(
        refused(Language::S390),
        "label Farrier: Network boot works, but the agent is for x86_64 PCs only: there is none for this machine.\n\
         kernel no-agent-for-this-machine\n"
    );
}

/// A PC's kernel must not reach another processor (T6 of the firmware notes), whatever was decided.
#[test]
fn no_kernel_is_ever_named() {
    let url = Url::new("tftp://10.0.0.1/boot/agent/1/vmlinuz").unwrap();
    let page = Page::Agent(AgentScript {
        kernel: &url,
        initrd: &url,
        arguments: &[],
        local_disk: &LocalDisk::Exit,
    });
    for language in [Language::UBoot, Language::S390] {
        let text = page.render(language).unwrap();
        assert!(
            !text.contains("vmlinuz") && text.contains("x86_64 PCs only"),
            "{text}"
        );
    }
}

proptest! {
    /// Whatever a line says, it stays on its line and begins no other.
    #[test]
    fn lines_stay_lines(values in prop::collection::vec(hostile(), 0..20)) {
        let lines: Vec<Text> = values.iter().map(|value| Text::readable(value)).collect();
        let page = Page::Diagnostics { lines: &lines, local_disk: &LocalDisk::Exit };
        if let Ok(menu) = page.render(Language::UBoot) {
            prop_assert_eq!(menu.lines().count(), 6 + 3 * lines.len());
        }
        if let Ok(config) = page.render(Language::S390) {
            prop_assert!(config.len() <= 2047);
            let starts = |line: &str| line.starts_with("label ") || line == "kernel no-agent-for-this-machine";
            prop_assert!(config.lines().all(starts));
        }
    }
}

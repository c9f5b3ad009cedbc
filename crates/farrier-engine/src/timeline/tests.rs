use uuid::Uuid;

use super::*;
use crate::catalogue::LoaderFile;
use crate::policy::LocalBoot;

const AT: WallTime = WallTime(5);

fn id() -> MachineId {
    MachineId(Uuid::from_u128(1))
}

fn facts() -> BootFacts {
    BootFacts::from_http([
        ("mac", "525400000001"),
        ("platform", "efi"),
        ("buildarch", "x86_64"),
        ("uuid", "x"),
    ])
    .unwrap()
}

#[test]
fn entries_are_whole_sentences() {
    let file = LoaderFile {
        id: "snponly".into(),
        file_name: "snponly.efi".into(),
    };
    let ip = Ipv4Addr::new(10, 0, 0, 9);
    let task = TaskId(Uuid::from_u128(2));
    let transfer = |end| Transfer {
        by: "TFTP",
        name: "snponly.efi",
        bytes: 10,
        sha256: Some("5feceb66"),
        took: Duration::from_millis(3),
        end,
        said: None,
    };
    let message = ScriptAction::Message {
        reason: Reason::NoAgent,
        local_disk: LocalBoot::Exit,
    };
    let rows = [
        (
            Entry::packet_seen(id(), AT, "HTTP", &facts()),
            Kind::Seen,
            "iPXE asks for its script.",
        ),
        (
            Entry::boot_answered(id(), AT, "DHCPOFFER", &Boot::Loader(file)),
            Kind::Answered,
            "It was told to fetch a loader by TFTP.",
        ),
        (
            Entry::address_answered(id(), AT, "DHCPACK", ip),
            Kind::Answered,
            "It has the address 10.0.0.9.",
        ),
        (
            Entry::lease_not_prolonged(id(), AT, ip, Duration::from_secs(600)),
            Kind::Warning,
            "It keeps the address 10.0.0.9 for the 600 s that are left of its lease. They could not be made more, \
             since the database cannot be written: look at its disk.",
        ),
        (
            Entry::refused(id(), AT, "DHCPDISCOVER", Reason::NotABootClient),
            Kind::Refused,
            "It does not ask to boot from the network.",
        ),
        (
            Entry::transfer(id(), AT, &transfer(TransferEnd::Done)),
            Kind::Transfer,
            "It fetched snponly.efi by TFTP.",
        ),
        (
            Entry::transfer(id(), AT, &transfer(TransferEnd::Probe)),
            Kind::Transfer,
            "It asked for the size of snponly.efi by TFTP.",
        ),
        (
            Entry::transfer(id(), AT, &transfer(TransferEnd::NotFound)),
            Kind::Transfer,
            "It asked for snponly.efi by TFTP, which we do not have.",
        ),
        (
            Entry::script_served(id(), AT, &ScriptAction::Agent(AgentPurpose::Task(task))),
            Kind::Answered,
            "It was told to start the agent for its task.",
        ),
        (
            Entry::script_served(id(), AT, &message),
            Kind::Refused,
            Reason::NoAgent.sentence(),
        ),
        (
            Entry::agent_enrolled(id(), AT, ip.into()),
            Kind::Agent,
            "The agent is up and enrolled.",
        ),
        (
            Entry::agent_refused(id(), AT, ip.into(), "the token was used before"),
            Kind::Refused,
            "The agent was not let in: the token was used before.",
        ),
        (
            Entry::task(id(), AT, task, "The task is done."),
            Kind::Task,
            "The task is done.",
        ),
        (
            Entry::conflict(id(), AT, "the UUID differs"),
            Kind::Warning,
            Reason::IdentityConflict.sentence(),
        ),
    ];
    for (entry, kind, text) in rows {
        assert_eq!((entry.kind, &*entry.text), (kind, text));
        assert_eq!((entry.machine, entry.at), (id(), AT));
    }
}

#[test]
fn what_the_client_showed_is_in_the_details() {
    let entry = Entry::packet_seen(id(), AT, "HTTP", &facts());
    let details: Vec<_> = entry
        .details
        .iter()
        .map(|(n, v)| format!("{n}: {v}"))
        .collect();
    assert_eq!(
        details,
        [
            "message: HTTP",
            "mac: 52:54:00:00:00:01",
            "architecture: x86_64",
            "firmware: UEFI",
            "oddity: Option 97 is not a UUID."
        ]
    );
}

#[test]
fn entries_are_bounded() {
    let long = "ü\n".repeat(1000);
    let mut entry = Entry::new(id(), AT, Kind::Seen, long.clone());
    for _ in 0..100 {
        entry = entry.with("name", &long);
    }
    assert_eq!(entry.text.chars().count(), MAX_TEXT + 1);
    assert_eq!(entry.details.len(), MAX_DETAILS);
    assert!(
        entry
            .details
            .iter()
            .all(|(_, v)| v.chars().count() == MAX_VALUE + 1 && !v.contains('\n'))
    );
}

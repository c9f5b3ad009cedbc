//! The command line as a whole.

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use super::Cli;

fn parse(line: &str) -> Result<Cli, ErrorKind> {
    let words = std::iter::once("farrier").chain(line.split_whitespace());
    Cli::try_parse_from(words).map_err(|error| error.kind())
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_people_type_is_understood() {
    for line in [
        "machine list",
        "machine list --search dell --state seen --json",
        "machine show 52:54:00:12:34:56",
        "machine timeline lab-07 --limit 5 --details",
        "machine add 52:54:00:12:34:56 52:54:00:12:34:57 --name lab-07",
        "machine rename lab-07 lab-08",
        "machine approve lab-07",
        "config reservations dhcpd.conf --from dhcpd --config farrier.toml",
        "machine enable lab-07",
        "machine wake lab-07 --secure-on 00:11:22:33:44:55",
        "machine code lab-07",
        "machine delete lab-07 --yes",
        "machine set lab-07 menu=always menu-timeout-s=",
        "task inventory --machine lab-07 --wait",
        "task capture --machine lab-07 --image lab",
        "task deploy --machine a,b --machine c --image lab --version 3 --disk serial=S5,min=200G --then power-off --yes",
        "task repair --machine lab-07 --image lab --wait --yes",
        "task deploy --machine lab-07 --yes",
        "task list --machine lab-07 --state running",
        "task show 018f4e7a-1111-7222-8333-444455556666",
        "task wait 018f4e7a-1111-7222-8333-444455556666 018f4e7a-1111-7222-8333-444455556667",
        "task cancel 018f4e7a-1111-7222-8333-444455556666",
        "task retry 018f4e7a-1111-7222-8333-444455556666 --yes",
        "image list",
        "image show lab --version 2",
        "image verify lab",
        "image delete lab --version 2 --yes",
        "image prune",
        "image import disk.qcow2 --as lab",
        "image export lab --to disk.raw",
        "image export lab --format bundle --to folder --data /srv/farrier",
        "image adopt folder --trust ed25519:00",
        "lease list",
        "lease release 192.0.2.7 --yes",
        "loader list",
        "loader import a.deb b.deb --data /srv/farrier",
        "policy show",
        "policy set unknown-machine=register",
        "policy set deploy=once image=lab --yes",
        "policy rules --set rules.toml --yes",
        "group set lab deploy=once image=lab --yes",
        "machine group lab-07 lab --yes",
        "machine set lab-07 deploy=once image=lab --yes",
        "machine rename lab-07 lab-08 --yes",
        "policy explain --mac 52:54:00:12:34:56 --firmware bios --json",
        "policy explain lab-07",
        "user add ada --role admin --password-stdin",
        "user passwd ada",
        "user role ada viewer",
        "user delete ada --yes",
        "token add ci --role operator --days 30",
        "token delete ci --yes",
        "login --name ada --password-stdin --server https://boot.example:8443",
        "logout",
        "doctor --json",
        "db backup copy.db",
        "db restore copy.db --yes --data /srv/farrier",
        "--json --server https://[2001:db8::1]:8443 machine list",
        "serve --config farrier.toml",
        "config check farrier.toml",
        "config reference",
        "agent build --kernel linux.deb --data /srv/farrier",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_asked() {
    use ErrorKind::{
        ArgumentConflict, InvalidValue, MissingRequiredArgument, UnknownArgument, ValueValidation,
    };
    for (line, expected) in [
        ("machine list --state sleeping", InvalidValue),
        ("machine set lab-07", MissingRequiredArgument),
        ("machine set lab-07 menu", ValueValidation),
        ("machine frobnicate", ErrorKind::InvalidSubcommand),
        ("task deploy --image lab", MissingRequiredArgument),
        ("task capture --machine a", MissingRequiredArgument),
        (
            "task deploy --machine a --image lab --disk sda",
            ValueValidation,
        ),
        (
            "task deploy --machine a --image lab --disk min=2T,max=1T",
            ValueValidation,
        ),
        (
            "task deploy --machine a --image lab --then explode",
            InvalidValue,
        ),
        ("task show lab-07", ValueValidation),
        ("task wait", MissingRequiredArgument),
        ("image import disk.raw", MissingRequiredArgument),
        ("image import disk.raw --as Not/A/Name", ValueValidation),
        ("image delete lab", MissingRequiredArgument),
        ("lease release lab-07", ValueValidation),
        ("policy explain", MissingRequiredArgument),
        ("policy rules --yes", MissingRequiredArgument),
        (
            "policy explain lab-07 --mac 52:54:00:12:34:56",
            ArgumentConflict,
        ),
        ("user add ada", MissingRequiredArgument),
        ("user add ada --role king", InvalidValue),
        (
            "user add ada --role admin --password secret",
            UnknownArgument,
        ),
        (
            "machine list --server http://127.0.0.1:8443",
            ValueValidation,
        ),
        ("machine list --ca 1234", ValueValidation),
    ] {
        assert_eq!(parse(line).err(), Some(expected), "{line}");
    }
}

/// Whoever sees the list of processes must not see a password or token.
#[test]
fn t14_no_option_takes_a_credential() {
    fn check(command: &clap::Command) {
        for argument in command.get_arguments() {
            let name = argument.get_long().unwrap_or_default();
            let takes_value = argument.get_action().takes_values();
            assert!(
                !(takes_value && (name.contains("password") || name == "token")),
                "{name}"
            );
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}

#[test]
fn every_command_and_option_is_explained() {
    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        assert!(command.get_about().is_some(), "{path}");
        command.get_subcommands().for_each(|sub| check(sub, &path));
    }
    check(&Cli::command(), "");
}

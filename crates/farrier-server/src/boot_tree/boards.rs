//! What a Raspberry Pi asks for before it runs any program of ours.

use std::net::IpAddr;

use farrier_engine::facts::without_board_folder;
use farrier_engine::quirk::is_raspberry_pi;

use super::{Asker, BootTree, Missing, Served};
use crate::boards::FIRST_FILES;

/// A name as a board says it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoardName<'a> {
    /// The folder that names the board, if it put one in front.
    board: Option<&'a str>,
    pub(super) rest: &'a str,
}

impl BootTree {
    /// The name without what names the board, if it is a board that asks. Boards of generation 3 look for their first
    /// file without such a folder, and all do for what they do not find in it.
    pub(super) fn board_name<'a>(&self, name: &'a str, ip: IpAddr) -> Option<BoardName<'a>> {
        if let Some(rest) = without_board_folder(name) {
            let board = name.split_once('/').map(|(board, _)| board);
            return Some(BoardName { board, rest });
        }
        // These names are ours, told to programs that run on it already.
        let asks = !name.starts_with("boot/") && self.mac_of(ip).is_some_and(is_raspberry_pi);
        let (board, rest) = (None, name);
        asks.then_some(BoardName { board, rest })
    }

    pub(super) fn board_file(&self, name: BoardName<'_>) -> Result<Option<Served>, Missing> {
        let found = self.boards.file(name.board, name.rest).map_err(|error| {
            tracing::error!(name = name.rest, %error, "a board's file cannot be served");
            Missing::Unreadable(error.to_string())
        })?;
        Ok(found.map(|content| Served {
            content,
            name: name.rest.to_owned(),
            sha256: None,
            loader: false,
            unsigned: false,
            warning: None,
            content_type: "application/octet-stream",
        }))
    }

    /// Boards look for many files that hardly any folder has; without any folder they get nowhere.
    pub(super) fn board_lacks(&self, name: BoardName<'_>) -> Missing {
        if FIRST_FILES.contains(&name.rest) && !self.boards.are_served() {
            Missing::NoBoardFolder
        } else {
            Missing::Expected
        }
    }

    /// Something went missing that its asker cannot do without.
    pub(super) fn lacks(
        &self,
        asker: Asker,
        board: Option<BoardName<'_>>,
    ) -> Result<Served, Missing> {
        let missing = || board.map_or(Missing::NoSuchName, |name| self.board_lacks(name));
        self.rescue(asker).ok_or_else(missing)
    }
}

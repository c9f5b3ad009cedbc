//! News for pages that are looked at: what changed, by id, and never a text of anybody.

use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use farrier_api::admin::Event as News;
use futures::{Stream, StreamExt as _};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::HEARTBEAT;
use crate::auth::Action;
use crate::fleet::Change;
use crate::service::{Desk, Refusal};

pub(super) async fn stream(
    desk: Desk,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    desk.allow(Action::Look)?;
    let changes = BroadcastStream::new(desk.core().changes.subscribe());
    let news = changes.map(|change| {
        let news = match change {
            Ok(change) => news(change),
            Err(BroadcastStreamRecvError::Lagged(_)) => News {
                kind: "lagged".to_owned(),
                id: None,
            },
        };
        Ok(Event::default().data(serde_json::to_string(&news).unwrap_or_default()))
    });
    Ok(Sse::new(news.take_until(tokio::time::sleep(LONGEST)))
        .keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

fn news(change: Change) -> News {
    let (kind, id) = match change {
        Change::Images => ("image", None),
        Change::Leases => ("lease", None),
        Change::Machine(id) => ("machine", Some(id.to_string())),
        Change::Site => ("site", None),
        Change::Task(id) => ("task", Some(id.to_string())),
        Change::Timeline(id) => ("timeline", Some(id.to_string())),
    };
    News {
        kind: kind.to_owned(),
        id,
    }
}

/// Then the browser asks again, and with it whether its session still holds.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(600);

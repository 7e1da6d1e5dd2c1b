//! Links with their addresses, routes, sockets.

use keelson_api::v1alpha1::{AddressesResponse, RoutesResponse, SocketsResponse};

use crate::output::{Body, Detail, Show};
use crate::table::{Cell, Table, Tone};
use crate::units::size;

impl Show for AddressesResponse {
    fn show(&self, detail: Detail) -> Body {
        let mut table = Table::new(["LINK", "KIND", "STATE", "ADDRESSES"]);
        table.more(
            detail.wide,
            [
                "HARDWARE ADDRESS",
                "MTU",
                "RECEIVED",
                "SENT",
                "ERRORS",
                "DROPPED",
            ],
        );
        for link in &self.links {
            let tone = match link.state.as_str() {
                "up" => Tone::Good,
                "down" | "lower-layer-down" => Tone::Warning,
                _ => Tone::Plain,
            };
            table.row([
                link.name.as_str().into(),
                link.kind.as_str().into(),
                Cell::toned(link.state.as_str(), tone),
                link.addresses.join(", ").into(),
                link.hardware_address.as_str().into(),
                link.mtu.to_string().into(),
                size(link.received_bytes).into(),
                size(link.sent_bytes).into(),
                pair(link.receive_errors, link.send_errors),
                pair(link.receive_dropped, link.send_dropped),
            ]);
        }
        Body::Table(table)
    }
}

/// Received and sent.
fn pair(received: u64, sent: u64) -> Cell {
    format!("{received}/{sent}").into()
}

impl Show for RoutesResponse {
    fn show(&self, detail: Detail) -> Body {
        let mut table = Table::new(["TO", "VIA", "LINK", "METRIC", "PROTOCOL"]);
        table.more(detail.wide, ["SOURCE", "TABLE"]);
        for route in &self.routes {
            table.row([
                route.destination.as_str().into(),
                route.gateway.as_str().into(),
                route.interface.as_str().into(),
                route.metric.to_string().into(),
                route.protocol.as_str().into(),
                route.source.as_str().into(),
                route.table.as_str().into(),
            ]);
        }
        Body::Table(table)
    }
}

impl Show for SocketsResponse {
    fn show(&self, detail: Detail) -> Body {
        let mut table = Table::new(["PROTOCOL", "STATE", "LOCAL", "REMOTE", "PROCESS"]);
        table.more(detail.wide, ["PID", "RECEIVE QUEUE", "SEND QUEUE"]);
        for socket in &self.sockets {
            let pid = match socket.pid {
                0 => Cell::default(),
                pid => pid.to_string().into(),
            };
            table.row([
                socket.protocol.as_str().into(),
                socket.state.as_str().into(),
                socket.local_address.as_str().into(),
                socket.remote_address.as_str().into(),
                socket.process.as_str().into(),
                pid,
                size(socket.receive_queue_bytes).into(),
                size(socket.send_queue_bytes).into(),
            ]);
        }
        Body::Table(table)
    }
}

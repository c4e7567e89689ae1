//! Alert channels with real receivers, and the commands that act on alerts: the real watchdogs and the real
//! `sanctum-launchd` under the simulated launchd.

mod by_hand;
mod channels;
mod heartbeat_url;
mod http_receiver;
mod mail_server;
mod outage;

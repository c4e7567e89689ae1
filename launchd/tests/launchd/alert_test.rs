//! `alert test`: all channels at once.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::host::Host;

#[test]
fn channels_are_tested_at_once() {
    let host = Host::new();
    let receivers = ["a", "b"].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let [a, b] = receivers.each_ref().map(|one| one.local_addr().unwrap());
    // These keys continue the section of parity.
    host.fleet(&format!(
        "alert = [\"a\", \"b\"]\n[alerts.a]\nurl = \"http://{a}/\"\n[alerts.b]\nurl = \"http://{b}/\"\n"
    ));
    // Neither receiver answers before both have a request.
    let answers = std::thread::spawn(move || {
        let streams = receivers.map(|receiver| receiver.accept().unwrap().0);
        for mut stream in streams {
            // An alert is a JSON object.
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                .unwrap();
        }
    });
    let said = host.run(&["alert", "test"]).ok();
    assert!(
        said.contains("a: delivered\n") && said.contains("b: delivered\n"),
        "{said}"
    );
    assert!(
        said.contains("2 channels accepted the test alert test-"),
        "{said}"
    );
    answers.join().unwrap();
}

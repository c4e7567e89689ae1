//! Mail over SMTP (RFC 5321), with TLS from the first byte or by STARTTLS.
//!
//! An alert is delivered when the server has answered 250 to the whole message, for all recipients. Only a server that
//! refuses the message itself rejects an alert permanently: a password or an address can be corrected. Recipients that the
//! server refuses do not keep the others from receiving it.
//!
//! A delivery runs on a thread of its own with a runtime of its own: lettre parses a long response without yielding, which
//! would stop the watchdog's checks and its time limits.

mod mail_stream;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{self, SMTP_PORT, SUBMISSION_PORT, SUBMISSIONS_PORT};
use reqwest::Url;
use sanctum_client::root_cause;
use sanctum_config::fleet::{self, SmtpTls};
use sanctum_config::{TildePath, UntrustedText, files};

use super::delivery::DeliveryError;
use super::secret;
use crate::alert::Alert;
use crate::blocking::BlockingTask;
use mail_stream::MailStream;

/// The time limit of one delivery: a mail server may let its clients wait before it greets them.
const LIMIT: Duration = Duration::from_secs(20);
/// The time limit of the thread that delivers, which a response that is slow to parse exceeds.
const THREAD_LIMIT: Duration = Duration::from_secs(21);
/// The time limit of reading the password and the certificate authorities.
const FILES_LIMIT: Duration = Duration::from_secs(5);
/// The largest file of certificate authorities, in bytes.
const LARGEST_CA: u64 = 4 << 20;

/// A mail server, and who receives alerts through it.
#[derive(Clone, Debug)]
pub struct Email {
    /// A name or an address.
    server: String,
    port: u16,
    tls: SmtpTls,
    from: Mailbox,
    to: Vec<Mailbox>,
    user: Option<(String, PathBuf)>,
    ca: Option<PathBuf>,
    reading: BlockingTask,
    sending: BlockingTask,
}

/// What is read from files for a delivery.
struct Secrets {
    credentials: Option<Credentials>,
    tls: Option<TlsParameters>,
}

impl Email {
    /// The mail server and the recipients of a section.
    ///
    /// # Errors
    /// A sentence that names the key and its fix.
    pub(super) fn of(section: &fleet::ChannelSection, file: &Path) -> Result<Self, String> {
        let beside = |path: &TildePath| path.beside(file).map_err(|error| error.to_string());
        let tls = section.tls.unwrap_or_default();
        let (server, port) = server(section.server.as_deref().unwrap_or_default(), tls)?;
        let mailbox = |key: &str, text: &str| {
            text.parse::<Mailbox>().map_err(|error| {
                format!("`{key}`: `{text}` is not a mail address ({error}); write name@example.com")
            })
        };
        let user = match (&section.user, &section.password_file) {
            (Some(user), Some(path)) => Some((user.clone(), beside(path)?)),
            _ => None,
        };
        Ok(Self {
            server,
            port,
            tls,
            from: mailbox("from", section.from.as_deref().unwrap_or_default())?,
            to: section
                .to
                .iter()
                .map(|text| mailbox("to", text))
                .collect::<Result<_, _>>()?,
            user,
            ca: section.ca_file.as_ref().map(beside).transpose()?,
            reading: BlockingTask::new("reading the password of a mail server"),
            sending: BlockingTask::with_hint(
                "sending a mail",
                "does the mail server answer in a way that no mail server should?",
            ),
        })
    }

    pub(super) async fn deliver(&self, alert: &Alert) -> Result<(), DeliveryError> {
        let message = self.message(alert).map_err(|error| {
            DeliveryError::never(
                format!("the mail cannot be written: {error}"),
                String::new(),
            )
        })?;
        let secrets = self.clone();
        let secrets = match self
            .reading
            .run(FILES_LIMIT, move || secrets.secrets())
            .await
        {
            Ok(secrets) => secrets,
            Err(error) => Err(error.to_string()),
        };
        let secrets = secrets
            .map_err(|why| DeliveryError::later(why, "correct the file that the error names"))?;
        let email = self.clone();
        let sending = move || email.send_within_limit(&secrets, &message.formatted());
        let sent = self.sending.run(THREAD_LIMIT, sending).await;
        sent.unwrap_or_else(|error| {
            let problem = format!("{self} did not take the mail: {error}");
            Err(DeliveryError::later(problem, self.ask_by_hand()))
        })
    }

    /// Sends a mail within [`LIMIT`]. It blocks the calling thread.
    fn send_within_limit(&self, secrets: &Secrets, message: &[u8]) -> Result<(), DeliveryError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| {
            DeliveryError::later(format!("a mail cannot be sent: {error}"), "ulimit -n")
        })?;
        let sent = runtime.block_on(async {
            // The timer needs the runtime.
            tokio::time::timeout(LIMIT, self.send(secrets, message)).await
        });
        // A name lookup that hangs is left behind.
        runtime.shutdown_background();
        sent.unwrap_or_else(|_| {
            let problem = format!("{self} did not take the mail within {} s", LIMIT.as_secs());
            Err(DeliveryError::later(problem, self.ask_by_hand()))
        })
    }

    /// What to do about a server that does not answer.
    fn ask_by_hand(&self) -> String {
        let starttls = match self.tls {
            SmtpTls::Starttls => " -starttls smtp",
            SmtpTls::Implicit | SmtpTls::None => "",
        };
        let Self { server, port, .. } = self;
        let place = match server.contains(':') {
            true => format!("[{server}]:{port}"),
            false => format!("{server}:{port}"),
        };
        match self.tls {
            SmtpTls::None => format!("does the server answer at that port? nc -v {server} {port}"),
            _ => format!(
                "does the server answer at that port? openssl s_client{starttls} -connect {place}"
            ),
        }
    }

    /// The password and the trusted authorities, as they are now.
    fn secrets(&self) -> Result<Secrets, String> {
        let credentials = self.user.as_ref().map(|(user, path)| {
            let password = secret::read(path, "the password")?;
            Ok::<_, String>(Credentials::new(user.clone(), password.to_string()))
        });
        let tls = match self.tls {
            SmtpTls::None => None,
            SmtpTls::Implicit | SmtpTls::Starttls => Some(self.trust()?),
        };
        Ok(Secrets {
            credentials: credentials.transpose()?,
            tls,
        })
    }

    fn trust(&self) -> Result<TlsParameters, String> {
        let mut tls = TlsParameters::builder(self.server.clone());
        if let Some(path) = &self.ca {
            let wrong = |why: String| format!("the `ca_file` {}: {why}", path.display());
            let pem =
                files::read_trusted(path, LARGEST_CA).map_err(|error| wrong(error.to_string()))?;
            let authorities =
                Certificate::from_pem(&pem).map_err(|error| wrong(root_cause(&error)))?;
            tls = tls
                .certificate_store(CertificateStore::None)
                .add_root_certificate(authorities);
        }
        tls.build()
            .map_err(|error| format!("TLS cannot be used: {}", root_cause(&error)))
    }

    async fn send(&self, secrets: &Secrets, message: &[u8]) -> Result<(), DeliveryError> {
        let tls = || secrets.tls.clone();
        let name = ClientId::default();
        let connected = match self.tls {
            // Before the first byte of a response, the server has proved who it is.
            SmtpTls::Implicit => {
                let place = (self.server.as_str(), self.port);
                AsyncSmtpConnection::connect_tokio1(place, Some(LIMIT), &name, tls(), None).await
            }
            SmtpTls::Starttls | SmtpTls::None => {
                let stream = MailStream::connect(&self.server, self.port).await;
                let stream = stream.map_err(|error| {
                    DeliveryError::later(format!("{self} cannot be reached: {error}"), PLAIN_FIX)
                })?;
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &name).await
            }
        };
        let mut connection = connected.map_err(|error| {
            let is_tls = error.is_tls() || is_about_certificate(&error);
            let fix = match (is_tls, self.tls) {
                (false, SmtpTls::Implicit) => {
                    "is that the right port? 465 speaks TLS from the first byte; 587 needs tls = \"starttls\""
                }
                (false, _) => PLAIN_FIX,
                (true, _) => TLS_FIX,
            };
            self.failed("cannot be reached", &error, fix)
        })?;
        if let Some(tls) = tls().filter(|_| self.tls == SmtpTls::Starttls) {
            // A connection whose upgrade has failed is dropped: lettre panics when it is closed.
            let upgraded = connection.starttls(tls, &name).await;
            upgraded.map_err(|error| {
                let fix = match () {
                    () if error.is_client() => {
                        "the server has no STARTTLS at this port: write tls = \"implicit\" (port 465)"
                    }
                    // The server has answered: its own TLS does not work.
                    () if error.status().is_some() => {
                        "the server refuses to start TLS: its own log says why; or write tls = \"implicit\" (port 465)"
                    }
                    () => TLS_FIX,
                };
                self.failed("does not start TLS", &error, fix)
            })?;
        }
        let done = self.converse(&mut connection, secrets, message).await;
        // A server that has accepted the message has delivered it, whatever it answers to QUIT.
        connection.abort().await;
        done
    }

    async fn converse(
        &self,
        connection: &mut AsyncSmtpConnection,
        secrets: &Secrets,
        message: &[u8],
    ) -> Result<(), DeliveryError> {
        if let Some(credentials) = &secrets.credentials {
            let accepted = connection.auth(DEFAULT_MECHANISMS, credentials).await;
            accepted.map_err(|error| {
                let fix = "correct `user` and the password in `password_file`; many providers want an app password";
                self.failed("does not accept the user", &error, fix)
            })?;
        }
        let from = connection
            .command(Mail::new(Some(self.from.email.clone()), Vec::new()))
            .await;
        from.map_err(|error| {
            let what = format!("does not accept the sender {}", self.from.email);
            self.failed(
                &what,
                &error,
                "correct `from`, or add `user` and `password_file`",
            )
        })?;
        const RECIPIENT_FIX: &str = "correct `to`, or add `user` and `password_file`";
        let mut rejected = Vec::new();
        for to in &self.to {
            let recipient = Rcpt::new(to.email.clone(), Vec::new());
            let Err(error) = connection.command(recipient).await else {
                continue;
            };
            let what = format!("does not accept the recipient {}", to.email);
            let failed = self.failed(&what, &error, RECIPIENT_FIX);
            if error.status().is_none() {
                // The connection is lost.
                return Err(failed);
            }
            rejected.push(failed);
        }
        if rejected.len() == self.to.len() {
            // A server that refuses all recipients may refuse the sender's password, or be full.
            return Err(rejected.swap_remove(0));
        }
        let refused = |error: smtp::Error| {
            let fix = "the server's answer says why; its log has more";
            let failed = self.failed("does not accept the mail", &error, fix);
            DeliveryError {
                is_permanent: error.is_permanent(),
                ..failed
            }
        };
        connection.command(Data).await.map_err(refused)?;
        connection.message(message).await.map_err(refused)?;
        if rejected.is_empty() {
            return Ok(());
        }
        let problems: Vec<String> = rejected.into_iter().map(|one| one.problem).collect();
        let problem = format!("{}; the other recipients have it", problems.join("; "));
        Err(DeliveryError::partial(problem, RECIPIENT_FIX))
    }

    fn failed(&self, what: &str, error: &smtp::Error, fix: &str) -> DeliveryError {
        let why = match error.status() {
            Some(_) => UntrustedText::new(&error.to_string()).to_string(),
            None => root_cause(error),
        };
        DeliveryError::later(format!("{self} {what}: {why}"), fix)
    }

    fn message(&self, alert: &Alert) -> Result<Message, lettre::error::Error> {
        let Alert {
            id,
            severity,
            source,
            host,
            title,
            body,
            time,
            ..
        } = alert;
        let mut mail = Message::builder()
            .from(self.from.clone())
            .date((*time).into())
            .subject(format!("[{severity}] {title}"))
            // The same for every delivery, so that a duplicate can be recognized.
            .message_id(Some(format!("<{id}@{host}.sanctum.invalid>")))
            .header(ContentType::TEXT_PLAIN)
            // RFC 3834: no vacation notice in return.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        for to in &self.to {
            mail = mail.to(to.clone());
        }
        let time = time.format("%Y-%m-%d %H:%M:%S UTC");
        mail.body(format!(
            "{title}\n\n{body}\n\n--\n{severity}, raised by {source} on {host} at {time}\nid: {id}\n"
        ))
    }
}

/// What to do about a server that cannot be reached without TLS.
const PLAIN_FIX: &str = "is that the right port? 587 and 25 begin without TLS";

/// What to do about a TLS error.
const TLS_FIX: &str = "`server` must be the name in the server's certificate; for an authority of your own, name its certificate with `ca_file`";

/// Whether a connection failed because the server's certificate is not trusted, which lettre reports as an error of the network.
fn is_about_certificate(error: &smtp::Error) -> bool {
    let cause = root_cause(error).to_ascii_lowercase();
    cause.contains("certificate") || cause.contains("unknownissuer")
}

impl std::fmt::Display for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the mail server {}:{}", self.server, self.port)
    }
}

/// A host with an optional port.
fn server(text: &str, tls: SmtpTls) -> Result<(String, u16), String> {
    let wrong = || {
        format!(
            "`server` = \"{text}\" is not a host; write \"smtp.example.com\" or \"smtp.example.com:2525\""
        )
    };
    let url = Url::parse(&format!("smtp://{text}")).map_err(|_| wrong())?;
    let host = url
        .host_str()
        .filter(|host| !host.is_empty())
        .ok_or_else(wrong)?;
    let is_only_host = url.port() != Some(0)
        && url.username().is_empty()
        && url.password().is_none()
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none();
    if !is_only_host {
        return Err(wrong());
    }
    // An IPv6 address is in brackets in a URL only.
    let host = host.trim_matches(['[', ']']).to_owned();
    let is_local = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if tls == SmtpTls::None && !is_local {
        return Err(format!(
            "tls = \"none\" would send alerts in the clear to {host}; write tls = \"implicit\" or \"starttls\" (\"none\" is for \
             a mail server on this host)"
        ));
    }
    let port = url.port().unwrap_or(match tls {
        SmtpTls::Implicit => SUBMISSIONS_PORT,
        SmtpTls::Starttls => SUBMISSION_PORT,
        SmtpTls::None => SMTP_PORT,
    });
    Ok((host, port))
}

#[cfg(test)]
mod tests;

//! `sanctum-launchd init`: ask five questions and write a fleet.toml.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use sanctum_config::atomic::{self, Staged};
use sanctum_config::{Fleet, Home, UntrustedText, quoted_file};
use sanctum_host::{read_fleet, ssh, this_host};
use serde_json::json;

use crate::Error;
use crate::args::{GlobalArgs, InitArgs};
use crate::console::Console;
use crate::fleet_notes::fleet_notes;
use crate::new_fleet::{AlertChannel, NewFleet, NewHost, SECRET_FILE, printable};

/// Runs it.
pub(crate) fn run(args: &GlobalArgs, init: &InitArgs, console: &mut Console) -> Result<(), Error> {
    let path = args
        .config
        .clone()
        .unwrap_or_else(|| PathBuf::from("fleet.toml"));
    check_is_new(&path)?;
    let stdin = io::stdin();
    let fleet = match stdin.is_terminal() && !console.is_json() {
        true => ask(init, &mut stdin.lock(), console.raw())?,
        false => from_flags(init)?,
    };
    let text = fleet.text().map_err(Error::refused)?;
    let secret = SecretFile::of(&fleet)?;
    if console.dry_run {
        if !console.is_json() {
            console.raw().write_all(text.as_bytes())?;
        }
        let line = format!(
            "{} would be written; nothing has been changed",
            path.display()
        );
        return Ok(console.end(&line, json!({ "file": path, "text": text }))?);
    }
    // An answer may have taken long.
    check_is_new(&path)?;
    let staged = stage(&path, text.as_bytes(), 0o644)?;
    if let Some(secret) = &secret {
        secret.write()?;
    }
    staged.put().map_err(|error| Error::write(&path, error))?;
    let notes = notes(&path)?;
    let next = next(&fleet, &path);
    let line = format!("wrote {}; next, in this order:", path.display());
    if console.is_json() {
        let secret = secret.map(|secret| secret.path);
        let result = json!({ "file": path, "secret_file": secret, "notes": notes, "next": next });
        return Ok(console.end(&line, result)?);
    }
    if let Some(secret) = &secret {
        console.note(&secret.describe(&fleet.serving))?;
    }
    for note in &notes {
        console.note(&format!("note: {note}"))?;
    }
    console.note(&line)?;
    for command in &next {
        console.note(&format!("    {command}"))?;
    }
    Ok(())
}

/// The file on this machine for the address of a receiver of alerts, if that is a secret.
struct SecretFile {
    path: PathBuf,
    address: String,
}

impl SecretFile {
    /// The file that the fleet names; none if it has no secret.
    fn of(fleet: &NewFleet) -> Result<Option<Self>, Error> {
        let Some(receiver) = fleet.secret() else {
            return Ok(None);
        };
        let secret = Self {
            // The new fleet has the default home.
            path: Home::of(&Fleet::default())?.path().join(SECRET_FILE),
            address: format!("{}\n", receiver.address()),
        };
        match fs::read(&secret.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(secret)),
            Ok(there) if there == secret.address.as_bytes() => Ok(Some(secret)),
            Err(error) => Err(Error::read(&secret.path, error)),
            Ok(_) => Err(Error::refused(format!(
                "{} has another address already, and init overwrites nothing; move it away, or write desktop or log here",
                secret.path.display()
            ))),
        }
    }

    fn write(&self) -> Result<(), Error> {
        let staged = stage(&self.path, self.address.as_bytes(), 0o600)?;
        staged
            .put()
            .map_err(|error| Error::write(&self.path, error))
    }

    /// What it is, and how it comes to the host that serves.
    fn describe(&self, serving: &NewHost) -> String {
        let NewHost { name, address } = serving;
        let file = quoted_file(&self.path);
        let there = "umask 077; mkdir -p ~/.sanctum/secrets; cat > ~/.sanctum/secrets/receiver.url";
        format!(
            "wrote {file} (mode 600): the address of the receiver, which `url_file` names. The watchdogs of {name} read it there; \
             if this machine is not {name}, copy it: {} < {file}",
            ssh::by_hand(address, there)
        )
    }
}

fn stage(path: &Path, bytes: &[u8], mode: u32) -> Result<Staged, Error> {
    atomic::stage(path, &mut &bytes[..], mode).map_err(|error| Error::write(path, error))
}

/// The notes of `check` about the new file.
fn notes(path: &Path) -> Result<Vec<String>, Error> {
    let (file, fleet) = read_fleet(Some(path))?;
    let here = this_host(&fleet, &Home::of(&fleet)?).ok().flatten();
    Ok(fleet_notes(&fleet, &file, here.as_ref()))
}

fn check_is_new(path: &Path) -> Result<(), Error> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(Error::refused(format!(
            "{} exists already, and init overwrites nothing; edit it, or name another file with --config",
            path.display()
        ))),
    }
}

/// The commands that follow.
fn next(fleet: &NewFleet, path: &Path) -> Vec<String> {
    let (file, serving) = (quoted_file(path), &fleet.serving.name);
    let mut next = vec![format!("sanctum-launchd check --config {file}")];
    if let Some(watching) = &fleet.watching {
        next.push(format!("sanctum-pki --config {file} init"));
        next.push(format!("sanctum-pki --config {file} fleet"));
        for host in [serving, &watching.name] {
            next.push(format!("sanctum-pki --config {file} bundle {host}"));
            next.push(format!(
                "sanctum-launchd push {host} --config {file} --release FOLDER"
            ));
        }
        return next;
    }
    next.push(format!(
        "sanctum-launchd install --config {file} --host {serving} --release FOLDER"
    ));
    next.push("sanctum-launchd status".to_owned());
    next
}

/// Without a terminal, flags are the answers, and those that are missing have their defaults.
fn from_flags(init: &InitArgs) -> Result<NewFleet, Error> {
    let serving = init.serve.clone().ok_or_else(|| {
        Error::refused(
            "standard input is not a terminal, so nothing can be asked; add --serve NAME=ADDRESS, and what you need of --watch, \
             --model, --standby and --alert",
        )
    })?;
    Ok(NewFleet {
        serving,
        watching: init.watch.clone(),
        model: init.model.clone().filter(|folder| !folder.is_empty()),
        standby: init.standby.clone(),
        alert: given_channel(init)?.unwrap_or(AlertChannel::Desktop),
    })
}

/// The channel that a flag names.
fn given_channel(init: &InitArgs) -> Result<Option<AlertChannel>, Error> {
    let channel = init.alert.as_deref().map(str::parse::<AlertChannel>);
    let failed = |why: String| Error::refused(format!("--alert: {why}"));
    channel.transpose().map_err(failed)
}

/// Asks for what no flag has answered.
fn ask(init: &InitArgs, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<NewFleet, Error> {
    let given_channel = given_channel(init)?;
    let mut questions = Questions { input, out };
    let some = |text: &str, parse: &dyn Fn(&str) -> Result<NewHost, String>| match text {
        "" => Ok(None),
        text => parse(text).map(Some),
    };
    let serving: NewHost = match &init.serve {
        Some(host) => host.clone(),
        None => questions.ask(
            "Which host serves, and how do other hosts reach it? NAME=ADDRESS, such as mini=192.0.2.25",
            str::parse,
        )?,
    };
    let watching = |text: &str| {
        let host: NewHost = text.parse()?;
        host.watches(&serving).map(|()| host)
    };
    Ok(NewFleet {
        watching: match &init.watch {
            Some(host) => Some(host.clone()),
            None => questions.ask(
                "Which other host watches it from outside? NAME=ADDRESS, or nothing for no other host",
                |text| some(text, &watching),
            )?,
        },
        model: match &init.model {
            Some(folder) => Some(folder.clone()),
            None => questions.ask(
                "Which model? Its folder, such as ~/models/qwen3.5-4b-4bit, or nothing for the built-in one",
                |text| printable(text).map(Some),
            )?,
        }
        .filter(|folder| !folder.is_empty()),
        standby: match &init.standby {
            Some(program) => Some(program.clone()),
            None => questions.ask(
                "Which other program can serve in its place? Its path and arguments, or nothing for none",
                |text| match text {
                    "" => Ok(None),
                    text => text.parse().map(Some),
                },
            )?,
        },
        alert: match given_channel {
            Some(channel) => channel,
            None => questions.ask(
                "How are alerts delivered? desktop, log, or the URL of a receiver; nothing for desktop",
                |text| match text {
                    "" => Ok(AlertChannel::Desktop),
                    text => text.parse(),
                },
            )?,
        },
        serving: serving.clone(),
    })
}

struct Questions<'a> {
    input: &'a mut dyn BufRead,
    out: &'a mut dyn Write,
}

impl Questions<'_> {
    /// Asks until the answer is valid.
    fn ask<T>(
        &mut self,
        question: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Error> {
        loop {
            writeln!(self.out, "{question}")?;
            write!(self.out, "> ")?;
            self.out.flush()?;
            let mut answer = String::new();
            let read = self.input.read_line(&mut answer);
            match read {
                Ok(0) => {
                    return Err(Error::refused(
                        "the input ended before all questions were answered; nothing was written",
                    ));
                }
                Ok(_) => {}
                Err(error) => {
                    return Err(Error::refused(format!("cannot read the answer: {error}")));
                }
            }
            match parse(answer.trim()) {
                Ok(value) => return Ok(value),
                Err(problem) => writeln!(self.out, "{}", UntrustedText::new(&problem))?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> InitArgs {
        InitArgs {
            serve: None,
            watch: None,
            model: None,
            standby: None,
            alert: None,
        }
    }

    #[test]
    fn five_questions_are_asked_and_repeated_until_the_answer_is_valid() {
        let answers =
            "mini\nmini=192.0.2.25\nmini=192.0.2.25\nlaptop=192.0.2.55\n~/models/a\n\nlog\n";
        let mut out = Vec::new();
        let fleet = ask(&nothing(), &mut answers.as_bytes(), &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.matches("> ").count(), 7, "{out}");
        assert!(out.contains("both serves and watches"), "{out}");
        assert!(out.contains("`mini` is not NAME=ADDRESS"), "{out}");
        assert_eq!(fleet.watching.as_ref().unwrap().name.as_str(), "laptop");
        assert_eq!(fleet.model.as_deref(), Some("~/models/a"));
        assert_eq!(
            (fleet.standby.is_none(), &fleet.alert),
            (true, &AlertChannel::Log)
        );
        fleet.text().unwrap();
        // Only what no flag has answered is asked.
        let flags = InitArgs {
            serve: Some("mini=192.0.2.25".parse().unwrap()),
            alert: Some("desktop".to_owned()),
            ..nothing()
        };
        let fleet = ask(&flags, &mut "\n\n\n".as_bytes(), &mut Vec::new()).unwrap();
        assert_eq!((fleet.watching, fleet.model), (None, None));
        let error = ask(&nothing(), &mut "mini=a\n".as_bytes(), &mut Vec::new());
        assert!(error.unwrap_err().to_string().contains("the input ended"));
    }
}

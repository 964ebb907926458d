//! The command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::replay::Changes;

pub(crate) const USAGE: &str = "\
The full gateway in front of several Azure OpenAI resources

Usage: aoai-gateway [--config FILE [--check [--live] | --health]]
       aoai-gateway --hash-key < KEY
       aoai-gateway --replay FILE [--emit-test]
       aoai-gateway [--config FILE] --what-if FILE [--add KIND:REGION:TOKENS[:ALIAS[:PRIORITY]]]... [--without BACKEND]...

  --config FILE  read the configuration from FILE; without it, simulated backends are started
  --check        validate FILE, print what would be served, and exit with status 0 or 2
  --live         ask every backend too, without spending tokens: names, TLS, credentials, deployments
  --health       ask the gateway that runs with FILE whether it is alive, and exit with status 0 or 2
  --hash-key     print what key_sha256 takes for the key on the standard input, which must be no terminal
  --replay FILE  run a recording again, print a report, and draw it beside the file
  --emit-test    print a Rust test that runs the recording again instead
  --what-if FILE run a recording again as it was, and under the configuration and changes that are given, side by side
  --add SPEC     one more deployment, standard or provisioned, such as standard:eastus:450000 (tokens a minute)
  --without NAME one backend fewer
  --help         print this text
";

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Args {
    /// A recording to be run again.
    pub(crate) replay: Option<PathBuf>,
    pub(crate) emit_test: bool,
    /// A recording to be run under something else.
    pub(crate) what_if: Option<PathBuf>,
    pub(crate) changes: Changes,
    pub(crate) config: Option<PathBuf>,
    pub(crate) check: bool,
    pub(crate) live: bool,
    pub(crate) health: bool,
    pub(crate) hash_key: bool,
    pub(crate) help: bool,
}

impl Args {
    /// Reads the arguments that follow the program's name; the error is a sentence for a person.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut args = args.into_iter();
        let mut parsed = Self::default();
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--config") => parsed.set_config(args.next().as_deref())?,
                Some("--replay") => parsed.replay = Some(file("--replay", args.next())?),
                Some("--emit-test") => parsed.emit_test = true,
                Some("--what-if") => parsed.what_if = Some(file("--what-if", args.next())?),
                Some("--add") => {
                    let spec = word("--add", args.next())?;
                    parsed.changes.add.push(spec.parse().map_err(|wrong| format!("--add: {wrong}"))?);
                }
                Some("--without") => parsed.changes.without.push(word("--without", args.next())?),
                Some("--check") => parsed.check = true,
                Some("--live") => parsed.live = true,
                Some("--health") => parsed.health = true,
                Some("--hash-key") => parsed.hash_key = true,
                Some("--help" | "-h") => parsed.help = true,
                Some(arg) if arg.starts_with("--config=") => {
                    parsed.set_config(arg.strip_prefix("--config=").map(OsStr::new))?;
                }
                // It may be the key.
                _ if parsed.hash_key => return Err("--hash-key takes the key from the standard input".to_owned()),
                _ => return Err(format!("unknown argument {arg:?}")),
            }
        }
        if parsed.hash_key && (parsed.config.is_some() || parsed.check || parsed.health) {
            return Err("--hash-key goes alone".to_owned());
        }
        if parsed.replay.is_some() && (parsed.what_if.is_some() || parsed.config.is_some()) {
            return Err("--replay runs a recording as it was: it goes with --emit-test only".to_owned());
        }
        if parsed.emit_test && parsed.replay.is_none() {
            return Err("--emit-test needs --replay FILE".to_owned());
        }
        if parsed.changes != Changes::default() && parsed.what_if.is_none() {
            return Err("--add and --without need --what-if FILE".to_owned());
        }
        if parsed.check && parsed.config.is_none() && !parsed.help {
            return Err("--check needs --config FILE".to_owned());
        }
        if parsed.health && (parsed.config.is_none() || parsed.check) && !parsed.help {
            return Err("--health goes with --config FILE alone".to_owned());
        }
        if parsed.live && !parsed.check && !parsed.help {
            return Err("--live needs --check".to_owned());
        }
        Ok(parsed)
    }

    fn set_config(&mut self, file: Option<&OsStr>) -> Result<(), String> {
        let file = file.filter(|file| !file.is_empty()).ok_or("--config needs a FILE")?;
        if self.config.replace(file.into()).is_some() {
            return Err("--config is given twice".to_owned());
        }
        Ok(())
    }
}

fn file(option: &str, arg: Option<OsString>) -> Result<PathBuf, String> {
    arg.filter(|arg| !arg.is_empty()).map(PathBuf::from).ok_or_else(|| format!("{option} needs a FILE"))
}

fn word(option: &str, arg: Option<OsString>) -> Result<String, String> {
    arg.and_then(|arg| arg.into_string().ok()).ok_or_else(|| format!("{option} needs a word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Args, String> {
        Args::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn reads_every_form() {
        let config = |check| Args { config: Some("g.toml".into()), check, ..Args::default() };
        assert_eq!(parse(&[]), Ok(Args::default()));
        assert_eq!(parse(&["--config", "g.toml"]), Ok(config(false)));
        assert_eq!(parse(&["--config=g.toml", "--check"]), Ok(config(true)));
        assert_eq!(parse(&["--check", "--config", "g.toml"]), Ok(config(true)));
        assert_eq!(parse(&["--live", "--check", "--config=g.toml"]), Ok(Args { live: true, ..config(true) }));
        assert_eq!(parse(&["--health", "--config=g.toml"]), Ok(Args { health: true, ..config(false) }));
        assert_eq!(parse(&["--hash-key"]), Ok(Args { hash_key: true, ..Args::default() }));
        assert_eq!(parse(&["--help"]), Ok(Args { help: true, ..Args::default() }));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for (args, expected) in [
            (&["--confg", "x"][..], "unknown argument \"--confg\""),
            (&["gateway.toml"], "unknown argument \"gateway.toml\""),
            (&["--config"], "--config needs a FILE"),
            (&["--config="], "--config needs a FILE"),
            (&["--config", "a", "--config", "b"], "--config is given twice"),
            (&["--check"], "--check needs --config FILE"),
            (&["--check", "--live"], "--check needs --config FILE"),
            (&["--config", "a", "--live"], "--live needs --check"),
            (&["--live"], "--live needs --check"),
            (&["--health"], "--health goes with --config FILE alone"),
            (&["--health", "--check", "--config=a"], "--health goes with --config FILE alone"),
            (&["--hash-key", "--config", "a"], "--hash-key goes alone"),
            (&["--check", "--hash-key"], "--hash-key goes alone"),
            (&["--replay"], "--replay needs a FILE"),
            (&["--replay", "a", "--config", "b"], "--replay runs a recording as it was: it goes with --emit-test only"),
            (&["--emit-test"], "--emit-test needs --replay FILE"),
            (&["--without", "east"], "--add and --without need --what-if FILE"),
            (
                &["--what-if", "a", "--add", "paygo:eastus:1"],
                "--add: \"paygo:eastus:1\": KIND is standard or provisioned; it must be KIND:REGION:TOKENS[:ALIAS[:PRIORITY]], \
                 such as standard:eastus:450000",
            ),
            (&["--hash-key", "the-key"], "--hash-key takes the key from the standard input"),
        ] {
            assert_eq!(parse(args), Err(expected.to_owned()), "{args:?}");
        }
    }
}

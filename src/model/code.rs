//! The evidence catalogue: every code, its class, points, reach and ATT&CK technique, in one table.
//!
//! Source of points and techniques: the detection design, section 5. Points are ordinal expert priors, not calibrated odds.
//! Hardness belongs to the variant that was found, so evidence carries its own [`Force`]; the table has the usual one.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Evidence classes. No single one is conclusive; analytics correlate them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// Resource: how long and how evenly processors were busy.
    R,
    /// Command: mining flags, wallets, obfuscation.
    C,
    /// Network: pools, proxies, rare destinations.
    N,
    /// Launch: task, WMI, PowerShell, service, exploit.
    L,
    /// Persistent external connection.
    P,
    /// Masquerade: renamed or misplaced binaries.
    M,
    /// Auxiliary traces.
    A,
    /// Benign context; lowers, never suppresses.
    B,
}

impl Class {
    /// In the order of every table and page.
    pub const ALL: [Self; 8] = [Self::R, Self::C, Self::N, Self::L, Self::P, Self::M, Self::A, Self::B];

    /// Most (for B: least) points the class can give.
    pub fn cap(self) -> f64 {
        match self {
            Self::R | Self::M => 30.0,
            Self::C | Self::N => 35.0,
            Self::L | Self::P => 25.0,
            Self::A => 20.0,
            Self::B => -30.0,
        }
    }

    /// Effective score from which the class counts as met.
    pub fn minimum(self) -> f64 {
        match self {
            Self::R | Self::C | Self::N | Self::A => 15.0,
            Self::L => 10.0,
            Self::P | Self::M => 12.0,
            Self::B => f64::INFINITY,
        }
    }

    /// Words for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::R => "Resource use",
            Self::C => "Command line",
            Self::N => "Mining or proxy network",
            Self::L => "Launch",
            Self::P => "Persistent connection",
            Self::M => "Masquerade",
            Self::A => "Auxiliary",
            Self::B => "Benign context",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What kind of proof a found variant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Force {
    /// Adds points only.
    Plain,
    /// Discriminator unless B.ADMIN, B.BASELINE or B.PREVDEST is active.
    Weak,
    /// Discriminator.
    Discriminator,
    /// Hard: always a discriminator; voids entries that do not name it.
    Hard,
}

impl Force {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Weak => "weak",
            Self::Discriminator => "discriminator",
            Self::Hard => "hard",
        }
    }
}

impl FromStr for Force {
    type Err = UnknownCode;
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        [Self::Plain, Self::Weak, Self::Discriminator, Self::Hard]
            .into_iter()
            .find(|f| f.as_str() == text)
            .ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

/// A text that is no evidence code (or force).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown evidence code `{0}`: the catalogue is in docs/DETECTION.md")]
pub struct UnknownCode(pub String);

/// One row of the catalogue.
#[derive(Debug)]
pub struct Entry {
    /// As shown: `R.PERSISTENT`.
    pub name: &'static str,
    /// Its class.
    pub class: Class,
    /// Points of the usual variant; negative for class B.
    pub points: f64,
    /// Force of the usual variant.
    pub force: Force,
    /// Scored instead of this code when both are there.
    pub replaced_by: &'static [&'static str],
    /// ATT&CK technique, where one is meant.
    pub technique: Option<&'static str>,
    /// One sentence.
    pub says: &'static str,
}

macro_rules! catalogue {
    ($( $variant:ident $name:literal $class:ident $points:literal $force:ident [$($over:literal),*] $tech:expr, $says:literal; )*) => {
        /// An evidence code of the catalogue.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the table says what each code means")]
        pub enum Code { $($variant),* }

        impl Code {
            /// All codes, class by class.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its row of the catalogue.
            pub fn entry(self) -> &'static Entry {
                match self { $( Self::$variant => &Entry {
                    name: $name, class: Class::$class, points: $points, force: Force::$force,
                    replaced_by: &[$($over),*], technique: $tech, says: $says,
                }, )* }
            }
        }
    };
}

catalogue! {
    RSustained "R.SUSTAINED" R 15.0 Plain ["R.PERSISTENT"] None, "at or above CPUThreshold for TimeWindow";
    RPersistent "R.PERSISTENT" R 22.0 Plain [] None, "the same run lasts at least 60 minutes";
    RThrottled "R.THROTTLED" R 15.0 Plain [] None, "evenly busy below the threshold for at least 60 minutes";
    RPlateau "R.PLATEAU" R 8.0 Plain [] None, "flat load that overlaps a run of at least 60 minutes";
    RDuty "R.DUTY" R 18.0 Plain [] None, "busy for two hours on at least three of five days";
    RGpu "R.GPU" R 16.0 Plain [] None, "compute engines of a graphics adapter at or above 50 % for TimeWindow";
    RUnattrib "R.UNATTRIB" R 15.0 Plain [] Some("T1014"), "load that no listed process explains";
    RAnom "R.ANOM" R 8.0 Plain [] None, "far more load than hosts of the class usually have from it at that hour";
    CMinerFlag "C.MINERFLAG" C 25.0 Hard [] None, "options that only mining programs take";
    CWallet "C.WALLET" C 25.0 Hard [] None, "a cryptocurrency wallet address";
    CMinerName "C.MINERNAME" C 25.0 Hard [] None, "name, original name or version data of a mining program";
    CB64Miner "C.B64MINER" C 28.0 Hard [] Some("T1140"), "mining text inside base64";
    CSblock "C.SBLOCK" C 25.0 Plain [] Some("T1620"), "script with mining or in-memory loading code";
    CObfHigh "C.OBF_HIGH" C 20.0 Plain [] Some("T1027.010"), "long encoded command, or decode and run";
    CCradle "C.CRADLE" C 18.0 Plain [] Some("T1105"), "downloads and runs";
    CObfMed "C.OBF_MED" C 12.0 Plain ["C.OBF_HIGH"] Some("T1027.010"), "characters escaped or joined to hide words";
    CCfgBare "C.CFGBARE" C 10.0 Plain [] None, "no arguments, but a miner's configuration file beside the image";
    NStratum "N.STRATUM" N 32.0 Hard [] None, "stratum conversation seen by a sensor";
    NIoc "N.IOC" N 30.0 Hard [] None, "destination is on DestinationIPList";
    NIocStale "N.IOC_STALE" N 18.0 Plain ["N.IOC"] None, "destination is on DestinationIPList, entry old or of low confidence";
    NDnsOnly "N.DNSONLY" N 18.0 Plain ["N.IOC"] None, "listed name looked up, no connection followed";
    NPersist "N.PERSIST" N 12.0 Plain [] None, "long-held destination that the fleet does not share";
    NMinePort "N.MINEPORT" N 10.0 Plain [] Some("T1571"), "port that pools use, destination not prevalent";
    NRare "N.RARE" N 8.0 Plain [] None, "few hosts ever talked to the destination";
    NTor "N.TOR" N 20.0 Plain [] Some("T1090.003"), "onion routing: a listed relay, or the program itself in the lineage";
    NProxyNet "N.PROXYNET" N 15.0 Plain [] Some("T1090.002"), "listed proxy, or a rare destination on a proxy's port";
    NTunnel "N.TUNNEL" N 15.0 Plain [] Some("T1572"), "tunnel through the proxy to a rare target, or by a tunnelling program";
    NIntProxy "N.INTPROXY" N 15.0 Plain [] Some("T1090.001"), "internal destination on a pool's or wallet's port, not infrastructure";
    NDoh "N.DOH" N 8.0 Plain [] Some("T1071.004"), "names resolved over HTTPS just before another connection";
    NDirectIp "N.DIRECTIP" N 6.0 Plain [] None, "no look-up led to the address";
    LTask "L.TASK" L 10.0 Plain ["L.TASK_SUSP"] Some("T1053.005"), "started by a scheduled task";
    LTaskSusp "L.TASK_SUSP" L 20.0 Discriminator [] Some("T1053.005"), "started by a suspicious scheduled task";
    LWmi "L.WMI" L 14.0 Plain ["L.WMI_SUB"] Some("T1047"), "started through WMI";
    LWmiSub "L.WMI_SUB" L 22.0 Discriminator [] Some("T1546.003"), "started by a WMI event subscription";
    LPs "L.PS" L 8.0 Plain ["L.PS_SUSP"] Some("T1059.001"), "started by PowerShell";
    LPsSusp "L.PS_SUSP" L 18.0 Weak [] Some("T1059.001"), "started by hidden, encoded or downloading PowerShell";
    LSvc "L.SVC" L 8.0 Plain ["L.SVC_SUSP"] Some("T1543.003"), "started as a service";
    LSvcSusp "L.SVC_SUSP" L 15.0 Discriminator [] Some("T1543.003"), "started by a suspicious service";
    LExploit "L.EXPLOIT" L 18.0 Discriminator [] Some("T1190"), "started by a server process";
    LRunKey "L.RUNKEY" L 8.0 Plain [] Some("T1547.001"), "started by a Run value or startup file";
    LRespawn "L.RESPAWN" L 6.0 Plain [] None, "starts again soon after each end";
    PLong30 "P.LONG30" P 15.0 Plain ["P.LONG4H"] None, "external connection held for at least 30 minutes";
    PLong4h "P.LONG4H" P 20.0 Plain [] None, "external connection held for at least 4 hours";
    PBeacon "P.BEACON" P 15.0 Plain [] None, "connections repeat with a regular gap";
    PInferred "P.INFERRED" P 12.0 Plain ["P.LONG30", "P.LONG4H"] None, "one connection, and the process stayed busy for 30 minutes";
    PIoc "P.IOC" P 20.0 Discriminator [] None, "listed destination held or contacted again";
    PRare "P.RARE" P 6.0 Plain [] None, "the held destination is rare";
    PLowRate "P.LOWRATE" P 4.0 Plain [] None, "long connection at a miner's rate";
    MSysPath "M.SYSPATH" M 25.0 Hard [] Some("T1036.005"), "system name outside its folder";
    MOfnMiner "M.OFN_MINER" M 25.0 Hard [] Some("T1036.003"), "a mining program under another name";
    MTamper "M.TAMPER" M 25.0 Hard [] Some("T1055.012"), "process image was replaced";
    MLookalike "M.LOOKALIKE" M 20.0 Discriminator [] Some("T1036.005"), "name one letter away from a system name";
    MExtTrick "M.EXTTRICK" M 20.0 Discriminator [] Some("T1036.007"), "extension made to mislead";
    MOfn "M.OFN" M 15.0 Discriminator ["M.OFN_MINER"] Some("T1036.003"), "renamed: original name differs";
    MUnsignedWritable "M.UNSIGNED_WRITABLE" M 12.0 Plain [] None, "unsigned image in a user-writable folder";
    MHollow "M.HOLLOW" M 20.0 Discriminator [] Some("T1055.012"), "system program started as it never is, busy and connected";
    MFakeVendor "M.FAKEVENDOR" M 18.0 Discriminator [] Some("T1036"), "claims a maker that did not sign it";
    MSideload "M.SIDELOAD" M 18.0 Discriminator [] Some("T1574.001"), "signed program with a foreign library";
    MMultiName "M.MULTINAME" M 12.0 Discriminator [] Some("T1036.003"), "one unsigned image under several names";
    MNewHash "M.NEWHASH" M 6.0 Plain [] None, "image that the fleet first met within the week";
    AAvMiner "A.AVMINER" A 18.0 Discriminator [] None, "a security product names a mining program";
    AAvAlert "A.AVALERT" A 8.0 Plain [] None, "a security product names malware";
    ADefExcl "A.DEFEXCL" A 15.0 Hard [] Some("T1562.001"), "excluded from scanning";
    ADefOff "A.DEFOFF" A 12.0 Plain [] Some("T1562.001"), "protection or logging stopped";
    APause "A.PAUSE" A 15.0 Discriminator [] Some("T1480"), "pauses while somebody looks at the processes";
    AKill "A.KILL" A 12.0 Discriminator [] None, "ends other programs, services or tasks in a row";
    AWinRing0 "A.WINRING0" A 12.0 Plain [] None, "driver that sets processor registers";
    ALockMem "A.LOCKMEM" A 10.0 Plain [] None, "right to lock pages in memory";
    AFw "A.FW" A 6.0 Plain [] Some("T1562.004"), "firewall rule for it";
    ARxMem "A.RXMEM" A 6.0 Plain [] None, "memory as RandomX takes it, constant under load";
    ADark "A.DARK" A 6.0 Plain [] Some("T1562.001"), "process and script telemetry silent around the load";
    BBaseline "B.BASELINE" B -15.0 Plain [] None, "an approved or learned baseline covers the load";
    BAdmin "B.ADMIN" B -15.0 Plain [] None, "started by known automation";
    BSignedCanon "B.SIGNED_CANON" B -12.0 Plain [] None, "signed, in its proper folder";
    BPrevDest "B.PREVDEST" B -10.0 Plain [] None, "talks only to destinations the fleet shares";
    BInteractive "B.INTERACTIVE" B -5.0 Plain [] None, "started by a person at the desktop";
}

impl Code {
    /// Its class.
    pub fn class(self) -> Class {
        self.entry().class
    }

    /// As shown.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// Whether an allowlist entry must name this code to cover it (its usual variant is hard).
    pub fn is_hard(self) -> bool {
        self.entry().force == Force::Hard
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Code {
    type Err = UnknownCode;
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL.iter().copied().find(|c| c.name() == text).ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_class_and_replacements_exist() {
        for code in Code::ALL {
            assert!(code.name().starts_with(&format!("{}.", code.class())), "{code}");
            assert_eq!(code.name().parse::<Code>().as_ref(), Ok(code));
            for over in code.entry().replaced_by {
                assert_eq!(over.parse::<Code>().unwrap().class(), code.class());
            }
        }
    }
}

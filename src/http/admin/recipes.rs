//! Configuration to paste, product by product: complete texts with the address and the token in them.
//!
//! What each product loses, and when, is printed beside its text (wire formats, section 8).

/// A product that can send, and how it is told to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recipe {
    /// In addresses.
    pub(super) id: &'static str,
    /// As people call it.
    pub(super) product: &'static str,
    /// Where the text belongs.
    pub(super) file: &'static str,
    /// Route of the ingest port that it uses; a test asks it.
    pub(super) route: &'static str,
    text: &'static str,
    /// What costs data, and what is missing.
    pub(super) notes: &'static [&'static str],
}

const NO_CPU: &str = "It sends no CPU load: add Metricbeat, Telegraf or the OpenTelemetry Collector, or class R stays blind.";
const ROTATE: &str = "On 401 it drops what it holds: make the new token before the old one ends, both count side by side.";

macro_rules! recipes {
    ($($id:literal $product:literal $file:literal $route:literal [$($note:expr),*];)*) => {
        /// All of them, in the order of the page.
        pub(super) const RECIPES: &[Recipe] = &[$(Recipe {
            id: $id, product: $product, file: $file, route: $route, text: include_str!(concat!("forwarders/", $file)), notes: &[$($note),*],
        }),*];
    };
}

recipes! {
    "winlogbeat" "Winlogbeat" "winlogbeat.yml" "/_bulk" [NO_CPU, "Without an event list of Security it sends everything: four times the volume, no more evidence."];
    "metricbeat" "Metricbeat" "metricbeat.yml" "/_bulk" ["By default it lists five processes only; here twenty. A process that is not listed counts as not measured, not as idle."];
    "elastic-agent" "Elastic Agent" "elastic-agent.yml" "/_bulk" ["With Fleet the output needs allow_older_versions in its advanced YAML."];
    "fluent-bit" "Fluent Bit" "fluent-bit.conf" "/api/v1/events" [NO_CPU, ROTATE, "Keep Render_Event_As_XML: nameless values of other forms are guessed by their number and may be lost."];
    "nxlog" "NXLog" "nxlog.conf" "/api/v1/events" [NO_CPU, "Its times carry no zone: set the zone of the token if the machines do not run in UTC."];
    "vector" "Vector" "vector.yaml" "/api/v1/events" [NO_CPU, ROTATE];
    "logstash" "Logstash" "logstash.conf" "/_bulk" ["Items it calls 400 go to its dead letter queue, if that is switched on; here they are in quarantine as well."];
    "rsyslog" "rsyslog" "rsyslog.conf" "/api/v1/events" [NO_CPU, "Without action.resumeRetryCount it gives up on the first refusal."];
    "splunk" "Splunk (HEC)" "splunk-outputs.conf" "/services/collector/event" [NO_CPU, "Without renderXml an event is one text without fields: it is kept and counted, no rule can judge it."];
    "otel" "OpenTelemetry Collector" "otel-collector.yaml" "/v1/logs" ["It drops a request on 400 and 401. raw: true keeps WMI and task events whole."];
    "telegraf" "Telegraf" "telegraf.conf" "/telegraf" ["Its cpu_usage alone cannot be read (two conventions): the counters of procstat are needed, they are on here."];
    "osquery" "osquery" "osquery.flags" "/osquery/enroll" ["The enrollment secret is the token.", "It refuses plain http."];
    "curl" "curl, scripts" "curl.sh" "/api/v1/events" ["Anything but 200 means: nothing was stored, send it again. A re-send changes nothing."];
    "import" "Files" "import.sh" "/api/v1/events" ["Detection depends on event time alone: last year's logs give last year's detections."];
}

impl Recipe {
    /// One by its id.
    pub(super) fn find(id: &str) -> Option<&'static Self> {
        RECIPES.iter().find(|r| r.id == id)
    }

    /// Its text for an address like `https://coalface.example:8088` and a token.
    pub(super) fn text(&self, base: &str, token: &str) -> String {
        let (scheme, rest) = base.split_once("://").unwrap_or(("http", base));
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (rest, if scheme == "https" { "443" } else { "80" }),
        };
        self.text
            .replace("@URL@", base)
            .replace("@HOST@", host)
            .replace("@PORT@", port)
            .replace("@TLS@", if scheme == "https" { "on" } else { "off" })
            .replace("@TOKEN@", token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_holds_address_and_token_and_no_blank() {
        for recipe in RECIPES {
            for base in ["http://192.0.2.7:8088", "https://[2001:db8::1]", "https://coalface.example"] {
                let text = recipe.text(base, "cf_itoken");
                assert!(text.contains("cf_itoken"), "{}", recipe.id);
                assert!(!["@URL@", "@HOST@", "@PORT@", "@TLS@", "@TOKEN@"].iter().any(|blank| text.contains(blank)), "{}", recipe.id);
            }
            assert!(!recipe.notes.is_empty() && Recipe::find(recipe.id).is_some());
        }
        let text = Recipe::find("fluent-bit").unwrap().text("https://[2001:db8::1]", "t");
        assert!(text.contains("[2001:db8::1]\n") && text.contains(" 443\n") && text.contains(" on\n"), "{text}");
    }
}

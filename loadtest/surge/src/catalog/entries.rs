//! All of them. Figures are those of `profiles/README.md` and of the sources named here.

use std::time::Duration;

use super::Grade::{Assumed, Derived, Stated};
use super::{Entry, Evidence, Parameter, Plays, shapes, surges};
use crate::language::Value::{self, Count, Multiple, Share};

const fn time(seconds: u64) -> Value {
    Value::Duration(Duration::from_secs(seconds))
}

const fn parameter(name: &'static str, default: Value, says: &'static str) -> Parameter {
    Parameter { name, default, says }
}

const fn known(says: &'static str, source: &'static str) -> Evidence {
    Evidence { grade: Stated, says, source }
}

const fn derived(says: &'static str, source: &'static str) -> Evidence {
    Evidence { grade: Derived, says, source }
}

const fn assumed(says: &'static str) -> Evidence {
    Evidence { grade: Assumed, says, source: "chosen for this tool" }
}

/// Of what a machine takes, for profiles that are about newcomers.
const SURGE: f64 = 0.8;
/// And for those in which newcomers are only there.
const ASIDE: f64 = 0.2;

const fn entry(name: &'static str, purpose: &'static str, plays: Plays) -> Entry {
    Entry {
        name,
        purpose,
        evidence: &[],
        parameters: &[],
        share_of_capacity: SURGE,
        compressed: false,
        plays,
    }
}

/// In the order in which they are listed.
pub static ENTRIES: [Entry; 23] = [
    Entry {
        evidence: &[assumed("what all others are compared with")],
        parameters: &[parameter("for", time(30), "how long"), parameter("at", Multiple(1.0), "how much")],
        ..entry("steady", "The same rate all the time.", Plays::Shape(shapes::steady))
    },
    Entry {
        evidence: &[known("ghz and Gatling have it", "ghz.sh, docs.gatling.io/concepts/injection")],
        parameters: &[
            parameter("from", Multiple(1.0), "rate at first"),
            parameter("to", Multiple(10.0), "rate at last"),
            parameter("for", time(60), "how long"),
        ],
        ..entry("ramp", "A rate that grows in a straight line.", Plays::Shape(shapes::ramp))
    },
    Entry {
        evidence: &[known("ghz and Gatling have it", "ghz.sh, docs.gatling.io/concepts/injection")],
        parameters: &[
            parameter("to", Multiple(5.0), "height of the step"),
            parameter("before", time(15), "calm before it"),
            parameter("hold", time(30), "how long it lasts"),
            parameter("after", time(15), "calm after it"),
        ],
        ..entry("step", "A sudden rise that lasts, and a sudden end.", Plays::Shape(shapes::step))
    },
    Entry {
        evidence: &[known(
            "goose and Gatling have it, to see where a service begins to bend",
            "book.goose.rs",
        )],
        parameters: &[
            parameter("steps", Count(5.0), "plateaus"),
            parameter("to", Multiple(5.0), "height of the last"),
            parameter("each", time(15), "length of each"),
        ],
        ..entry("staircase", "One plateau above the other.", Plays::Shape(shapes::staircase))
    },
    Entry {
        evidence: &[
            known(
                "Telegram, 22 February 2014: 100 sign-ups a second at the peak, 20.8 in the mean of the day",
                "whatsaid.net, RT",
            ),
            assumed("ten times within 5 s for 30 s, as load-spike of goose and atOnce of Gatling"),
        ],
        parameters: &[
            parameter("to", Multiple(10.0), "height"),
            parameter("before", time(10), "calm before it"),
            parameter("rise", time(5), "time up, and down"),
            parameter("hold", time(30), "time at the top"),
            parameter("after", time(10), "calm after it"),
        ],
        ..entry("spike", "Up within seconds, a while at the top, and down.", Plays::Shape(shapes::spike))
    },
    Entry {
        evidence: &[known(
            "Gatling's stressPeakUsers: a number of people along a smooth step function",
            "docs.gatling.io/concepts/injection",
        )],
        parameters: &[
            parameter("to", Multiple(10.0), "height of the hill"),
            parameter("people", Count(0.0), "people in all, instead of a height"),
            parameter("for", time(60), "how long"),
        ],
        ..entry(
            "heaviside",
            "A crowd of known size that comes and has come: the count is a smooth step.",
            Plays::Shape(shapes::heaviside),
        )
    },
    Entry {
        evidence: &[
            known(
                "Telegram, 4 October 2021, while Facebook was down for six hours: over 70 million people in one day, where 1.5 million were usual",
                "siliconrepublic.com, russia-ic.com",
            ),
            derived(
                "810 a second in the mean of that day, 3,240 if all came within the six hours",
                "the same",
            ),
            known("Signal the same day: finding people was slow, messages were not", "Signal-Android #11657"),
            assumed(
                "ten times, bursts of three times that for ten minutes in every hour, halved every two hours after it; look-ups 3 minutes later, messages up to twice as many",
            ),
        ],
        parameters: &[
            parameter("to", Multiple(10.0), "height of the plateau"),
            parameter("burst", Multiple(3.0), "of the plateau, once in an hour"),
            parameter("hours", Count(6.0), "hours of the plateau"),
        ],
        compressed: true,
        ..entry(
            "refugees",
            "A competitor is down: people come within ten minutes and go on coming for hours.",
            Plays::Surge(surges::refugees),
        )
    },
    Entry {
        evidence: &[
            known(
                "7.7 million downloads on 15 January, 220 times the ordinary; two million sign-ups in twelve hours on the 10th",
                "Le Figaro after Sensor Tower; Platformer",
            ),
            known("the number of users only doubled, from 20 to over 40 million", "Platformer"),
            derived(
                "744 hours; how well each day is known is in profiles/README.md",
                "profiles/signal-2021.csv",
            ),
        ],
        compressed: true,
        ..entry("signal-2021", "January 2021, hour by hour.", Plays::Surge(surges::signal_2021))
    },
    Entry {
        evidence: &[known(
            "Bluesky, when Brazil banned X: the rate of events grew by about 1,300 %, the firehose from 24 to 232 GB a day",
            "jazco.dev/2024/09/24/jetstream",
        )],
        parameters: &[
            parameter("by", Multiple(14.0), "height of the wave"),
            parameter("days", Count(3.0), "how long it stays"),
        ],
        compressed: true,
        ..entry(
            "ban-wave",
            "A country moves in and stays: everything is many times as much for days.",
            Plays::Surge(surges::ban_wave),
        )
    },
    Entry {
        evidence: &[
            known(
                "7 January 2021, 12:56 UTC: \"Use Signal\"; the same day codes were delayed across several providers",
                "frettabladid.is, republicworld.com",
            ),
            known(
                "codes came so late that they had expired, which made people ask for more",
                "Signal-Android #10410",
            ),
            assumed("fifty times within two minutes, codes after 30 s in the median, a fifth ask again"),
        ],
        parameters: &[
            parameter("to", Multiple(50.0), "height"),
            parameter("within", time(120), "time up"),
            parameter("code-delay", time(30), "half of the codes take longer"),
            parameter("resend", Share(0.2), "who ask for a second code meanwhile"),
        ],
        compressed: true,
        ..entry(
            "celebrity",
            "Somebody with an audience names the service, and its provider of codes is slow.",
            Plays::Surge(surges::celebrity),
        )
    },
    Entry {
        evidence: &[assumed(
            "eight times as many messages for two minutes from one second on, a tenth of them to groups of eight: New Year",
        )],
        parameters: &[parameter("to", Multiple(8.0), "height"), parameter("hold", time(120), "how long")],
        share_of_capacity: ASIDE,
        ..entry("midnight", "Everybody writes in the same second.", Plays::Surge(surges::midnight))
    },
    Entry {
        evidence: &[assumed(
            "three tenths of those who are offline open the app within a minute of a notification, and fetch what was kept",
        )],
        parameters: &[
            parameter("share", Share(0.3), "of those offline who come"),
            parameter("within", time(60), "in which they come"),
            parameter("before", time(10), "calm before it"),
            parameter("after", time(20), "calm after it"),
            parameter("offline", Share(0.5), "of all who are offline at first"),
        ],
        share_of_capacity: ASIDE,
        ..entry(
            "broadcast",
            "A notification to all: people who were offline come and fetch their messages.",
            Plays::Surge(surges::broadcast),
        )
    },
    Entry {
        evidence: &[
            known(
                "asked of broker benchmarks again and again, and answered with a shell loop",
                "emqtt-bench #39, #75, #192, #264",
            ),
            known(
                "Discord, 13 October 2017: millions had to be let back over 20 minutes",
                "discordstatus.com/incidents/qk9cdgnqnhcn",
            ),
        ],
        parameters: &[
            parameter("share", Share(1.0), "of the connections that are lost"),
            parameter("after", time(25), "time to come back"),
        ],
        share_of_capacity: ASIDE,
        ..entry(
            "reconnect-storm",
            "All connections are lost at once, and all come back.",
            Plays::Surge(surges::reconnect_storm),
        )
    },
    Entry {
        evidence: &[assumed("a deployment that replaces one gateway of five every 30 s")],
        parameters: &[
            parameter("parts", Count(5.0), "gateways"),
            parameter("every", time(30), "time between two"),
        ],
        share_of_capacity: ASIDE,
        ..entry(
            "rolling-restart",
            "Gateways are replaced one after the other.",
            Plays::Surge(surges::rolling_restart),
        )
    },
    Entry {
        evidence: &[
            known(
                "Centrifugo's test of a million connections had 200,000 of them replaced each minute",
                "centrifugal.dev/blog/2020/02/10/million-connections-with-centrifugo",
            ),
            assumed("a twentieth of all people, each gone once in 10 to 40 s"),
        ],
        parameters: &[
            parameter("share", Share(0.05), "of all whose connections do not hold"),
            parameter("for", time(60), "how long"),
        ],
        share_of_capacity: ASIDE,
        ..entry("flap", "Connections of a few that never hold, as on a train.", Plays::Surge(surges::flap))
    },
    Entry {
        evidence: &[
            known(
                "of 22 metastable failures in 11 organisations many were sustained by retries",
                "Huang et al., OSDI 2022",
            ),
            derived("three layers that try three times each make 27 calls of one", "arithmetic"),
            assumed("answers 2 s late for a minute, for people who wait for one second"),
        ],
        parameters: &[
            parameter("before", time(10), "calm before it"),
            parameter("by", time(2), "how much later answers come"),
            parameter("for", time(60), "how long"),
            parameter("after", time(20), "time to recover"),
            parameter("patience", time(1), "after which people send again"),
        ],
        share_of_capacity: ASIDE,
        ..entry(
            "retry-amplify",
            "The service gets slow for a while, people send again; does it come back by itself?",
            Plays::Surge(surges::retry_amplify),
        )
    },
    Entry {
        evidence: &[
            known(
                "after one failed code 37 % try again, after two 8 % (a vendor's claim)",
                "truecheck.co/blog/the-true-cost-of-failed-otp-delivery",
            ),
            assumed("codes are typed 10 to 20 s after they came, one in ten wrongly at first"),
        ],
        parameters: &[
            parameter("to", Multiple(10.0), "height of the crowd"),
            parameter("hold", time(10), "how long it comes"),
            parameter("wrong", Share(0.1), "who mistype the code"),
        ],
        ..entry(
            "thundering-otp",
            "A crowd that types its codes at the same time, some of them wrongly.",
            Plays::Surge(surges::thundering_otp),
        )
    },
    Entry {
        evidence: &[
            known(
                "ChatGPT's busiest hour in the week of March 2025 was 1.7 times the mean",
                "Pragmatic Engineer",
            ),
            assumed("a sine, lowest at midnight"),
        ],
        parameters: &[
            parameter("amplitude", Share(0.65), "above and below the mean"),
            parameter("days", Count(1.0), "how long"),
        ],
        compressed: true,
        ..entry("diurnal", "Day and night.", Plays::Surge(surges::diurnal))
    },
    Entry {
        evidence: &[assumed("eight hours of the same, to find what grows")],
        parameters: &[parameter("for", time(8 * 3_600), "how long")],
        share_of_capacity: ASIDE,
        ..entry("soak", "The same for hours: leaks show.", Plays::Surge(surges::soak))
    },
    Entry {
        evidence: &[
            assumed(
                "a made-up day of the bursty kind that Azure Functions saw; not data. The data, under CC-BY, become a trace with `surge trace import --azure2021`",
            ),
            known(
                "per-invocation trace of two weeks from 31 January 2021",
                "github.com/Azure/AzurePublicDataset; Zhang et al., SOSP 2021",
            ),
        ],
        parameters: &[parameter("for", time(86_400), "into which the day is put")],
        compressed: true,
        ..entry(
            "azure-burst",
            "A day of minutes of which most are quiet and some are many times the mean.",
            Plays::Shape(shapes::azure_burst),
        )
    },
    Entry {
        evidence: &[known(
            "late codes expired on arrival, and each was asked for again",
            "Signal-Android #10410",
        )],
        ..entry(
            "provider-brownout",
            "The provider of codes takes a tenth for a while; the load tool plays the provider.",
            Plays::Scene,
        )
    },
    Entry {
        evidence: &[known(
            "artificially inflated traffic cost brands 1.16 billion dollars in 2023",
            "Enea, by tmtid.com/news/the-ait-problem",
        )],
        ..entry(
            "pumping",
            "A thousand numbers of one prefix that never type a code, among five per cent of honest people.",
            Plays::Scene,
        )
    },
    Entry {
        evidence: &[known(
            "Pokemon GO planned five times and got fifty, past the plan after 15 minutes",
            "Google Cloud, by datatronic.hu",
        )],
        ..entry(
            "room-million",
            "A million people in the waiting room of five gateways, of which one is killed; in virtual time.",
            Plays::Scene,
        )
    },
];

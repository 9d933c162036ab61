//! Cuts between real instances that no node is told of: bytes vanish, and no connection ends.

use std::time::Duration;

use tallymesh::{Config, DenialReason, Limit, Limiter, Request, WhenCutOff, Window};
use tallymesh_test_support::{Proxy, Way, until};

const PATIENCE: Duration = Duration::from_secs(20);
const MAX: u64 = 101;

/// Which way nothing passes: from the first of the two to the other, which it dialed, or back, or both.
const CUTS: [&[Way]; 3] = [&[Way::There, Way::Back], &[Way::There], &[Way::Back]];

/// Two instances that reach each other over a proxy alone.
struct Pair {
    proxy: Proxy,
    nodes: [Limiter; 2],
}

impl Pair {
    async fn open(when: WhenCutOff) -> Pair {
        let proxy = Proxy::start().await.unwrap();
        let limit = Limit::new("calls", MAX, Window::Session { ttl: Duration::from_secs(3600) });
        let config = |name: &str| {
            Config::builder(name)
                .in_memory()
                .listen("127.0.0.1:0")
                .peer_exchange(false)
                .limit(limit.clone().when_cut_off(when))
        };
        let b = Limiter::open(config("b").build().unwrap()).await.unwrap();
        proxy.lead_to(b.counters().address().unwrap());
        let a = config("a").peers([proxy.address().to_string()]).build().unwrap();
        let pair = Pair { proxy, nodes: [Limiter::open(a).await.unwrap(), b] };
        pair.until_whole().await;
        pair
    }

    async fn until_whole(&self) {
        until("they hear each other", PATIENCE, || {
            self.nodes.iter().all(|node| {
                node.status().cut_off.is_none() && node.peers().iter().any(|peer| peer.connected)
            })
        })
        .await;
    }

    fn cut(&self, ways: &[Way]) {
        ways.iter().for_each(|way| self.proxy.cut_one_way(*way, true));
    }

    async fn until_noticed(&self) {
        until("both have noticed", PATIENCE, || {
            self.nodes.iter().all(|node| node.status().cut_off.is_some())
        })
        .await;
        for (node, other) in self.nodes.iter().zip(["b", "a"]) {
            let cut = node.status().cut_off.unwrap();
            assert_eq!(
                (cut.members, cut.side, &cut.suspected[..]),
                (2, 1, &[other.to_owned()][..])
            );
        }
    }

    /// How much each admits until it refuses, and why it does then.
    fn admit_all(&self) -> [(u64, DenialReason); 2] {
        self.nodes.each_ref().map(|node| {
            let mut admitted = 0;
            loop {
                match node.acquire(&Request::new()).into_denied() {
                    None => admitted += 1,
                    Some(denial) => return (admitted, denial.reason()),
                }
            }
        })
    }

    async fn until_agreed(&self, value: u64) {
        let counted = |node: &Limiter| {
            let keys = node.keys(&Request::new());
            keys.iter().map(|key| node.counters().value(key)).sum::<u64>()
        };
        until("both count what both admitted", PATIENCE, || {
            self.nodes.iter().all(|node| counted(node) == value)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_cut_shares_what_is_left_and_both_ends_count_alike_whichever_way_is_lost() {
    for ways in CUTS {
        let pair = Pair::open(WhenCutOff::Share).await;
        assert!(pair.nodes[0].acquire(&Request::new()).is_allowed());
        pair.until_agreed(1).await;

        pair.cut(ways);
        pair.until_noticed().await;
        // Half of the 100 that are left, but for one or two where a node that was slow was suspected before.
        let [first, second] = pair.admit_all();
        for (node, (admitted, why)) in pair.nodes.iter().zip([first, second]) {
            assert_eq!(why, DenialReason::CutOff, "{ways:?}");
            assert!((48..=50).contains(&admitted), "{ways:?}: {admitted}");
            assert!(node.cap(&Request::new()).is_some_and(|cap| cap <= 51), "{ways:?}");
        }
        let counted = 1 + first.0 + second.0;

        pair.proxy.cut(false);
        pair.until_whole().await;
        pair.until_agreed(counted).await;
        assert!(pair.nodes.iter().all(|node| node.cap(&Request::new()).is_none()), "{ways:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_of_half_refuses_where_a_limit_denies_and_goes_on_where_it_allows() {
    for (when, each) in [
        (WhenCutOff::Deny, (0, DenialReason::CutOff)),
        (WhenCutOff::Allow, (MAX, DenialReason::LimitReached)),
    ] {
        let pair = Pair::open(when).await;
        pair.cut(CUTS[0]);
        if when != WhenCutOff::Allow {
            pair.until_noticed().await;
        }
        assert_eq!(pair.admit_all(), [each; 2], "{when}");
        pair.proxy.cut(false);
        pair.until_agreed(2 * each.0).await;
    }
}

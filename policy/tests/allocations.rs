//! Deciding a request allocates nothing, once the buffers have grown: each allocation would be paid
//! with every request. Counted by the allocator of this test program.

#![expect(
    unsafe_code,
    reason = "a counting allocator has to implement the unsafe trait; it hands everything on to the system's"
)]
#![expect(clippy::expect_used, reason = "a test that cannot go on must stop")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ombre_policy::decisions::DecisionTable;
use ombre_policy::document::Revision;
use ombre_policy::headers::HeaderMap;
use ombre_policy::in_force::InForce;
use ombre_policy::load::load_text;
use ombre_policy::plan::Plan;
use ombre_policy::policy::SlotTables;
use ombre_policy::switches::Switches;
use ombre_policy::verdict::Verdict;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: the system's allocator does the work, with what it is given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const POLICY: &str = "
apiVersion: ombre/v1
services:
  - name: shop
    routes:
      - { name: api, path: '/api/{version}/users/{id:[0-9]+}' }
      - { name: pages, hosts: ['*.example.com'], path: '/shop/{*rest}', rewrite: '/pages/{rest}' }
    versions: [{ name: v1, cluster: c1, stage: prod }, { name: v2, cluster: c2, stage: canary }]
    default: v1
    colors: { canary-v2: v2 }
    unit: [{ header: x-user-id }, mint]
    rollout: { candidate: v2, weight: 20 }
    experiments:
      - { experiment: cart, groups: [{ name: a, weight: 50, features: { cart: true } }, { name: b, weight: 50 }] }
      - { experiment: look, groups: [{ name: c, weight: 100, features: { look: dark } }] }
";

fn in_force() -> InForce {
    let policy = load_text(POLICY).expect("valid").policy;
    let plan = Plan::compile(&policy, &policy.slots(&SlotTables::default()));
    let mut in_force = InForce::new(Switches::default());
    in_force.put(plan, Revision::new(1), DecisionTable::default());
    in_force
}

/// Name, path and further headers.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

#[test]
fn deciding_a_request_allocates_nothing() {
    let mut in_force = in_force();
    let cases: [Case<'_>; 6] = [
        ("user", "/shop/cart", &[("x-user-id", "u")]),
        ("minted", "/shop/cart", &[]),
        (
            "pattern and escape",
            "/api/v2/us%65rs/7?a=b",
            &[("x-user-id", "u")],
        ),
        (
            "accept",
            "/shop/a",
            &[("accept", "application/vnd.shop.v2+json;q=0.5, */*")],
        ),
        (
            "color by cookie into baggage",
            "/shop/a",
            &[
                ("cookie", "a=b; traffic_color=canary-v2"),
                ("baggage", "a=b,c=d"),
            ],
        ),
        ("no route", "/else", &[]),
    ];
    for (name, path, own) in cases {
        let mut headers = vec![
            (":method", "GET"),
            (":path", path),
            (":authority", "a.example.com"),
        ];
        headers.extend_from_slice(own);
        let bytes = HeaderMap::encode(&headers);
        let mut decide = || {
            let mut written = 0;
            let verdict = in_force.decide(HeaderMap::new(&bytes), || [7; 16]);
            let counts = verdict.counts().count();
            if let Verdict::Route(mut routed) = verdict {
                routed.write(|_| written += 1);
            }
            assert!(written > 0 || name == "no route", "{name}, {counts}");
        };
        // The first one makes the buffers as large as they need to be.
        decide();
        let before = ALLOCATIONS.get();
        decide();
        assert_eq!(ALLOCATIONS.get() - before, 0, "{name}");
    }
}

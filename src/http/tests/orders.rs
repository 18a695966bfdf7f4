//! An order's events: who sees them, in which order, and what of them.

use super::*;

const PATH: &str = "/api/v1/orders/o-1/events";

fn types(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let rows = json["data"].as_array().unwrap_or_else(|| panic!("{}", answer.text));
    rows.iter().map(|row| row["type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn events_come_newest_first_in_pages_with_their_count() {
    each_engine(async |db| {
        let api = Api::new(db);
        api.remember("shop", "o-1", life_of_an_order("shop", "o-1")).await;
        let service = api.token("erp", &[Role::Service], "shop");
        let all = api.get_as(&service, PATH).await;
        assert_eq!(types(&all), ["order.shipped", "order.paid", "order.created"]);
        assert_eq!((&all.json()["count"], &all.json()["nextCursor"]), (&3.into(), &Value::Null));
        assert_eq!(all.json()["data"][0]["version"], 3);
        assert_eq!(all.json()["data"][0]["data"]["carrier"], "DHL");

        let first = api.get_as(&service, &format!("{PATH}?limit=2")).await.json();
        assert_eq!(first["data"].as_array().unwrap().len(), 2);
        let cursor = first["nextCursor"].as_str().unwrap();
        let second = api.get_as(&service, &format!("{PATH}?limit=2&cursor={cursor}")).await;
        assert_eq!(types(&second), ["order.created"]);
        assert_eq!((&second.json()["count"], &second.json()["nextCursor"]), (&3.into(), &Value::Null));

        let check = async |query: &str, expected: &[&str]| {
            let answer = api.get_as(&service, &format!("{PATH}?{query}")).await;
            assert_eq!(types(&answer), expected, "{query}");
            assert_eq!(answer.json()["count"], expected.len(), "{query}");
        };
        check("type=ORDER_PAID,OrderShipped", &["order.shipped", "order.paid"]).await;
        check("from=1970-01-01T00:00:02Z", &["order.shipped", "order.paid"]).await;
        check("to=1970-01-01T00:00:02Z", &["order.created"]).await;
        check("type=order.refunded", &[]).await;
    })
    .await;
}

#[tokio::test]
async fn parameters_that_are_not_right_are_refused_by_name() {
    each_engine(async |db| {
        let api = Api::new(db);
        api.remember("shop", "o-1", life_of_an_order("shop", "o-1")).await;
        let service = api.token("erp", &[Role::Service], "shop");
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=ten", "limit"),
            ("limit=1&limit=2", "limit"),
            ("cursor=abc", "cursor"),
            ("type=order.payed", "type"),
            ("from=yesterday", "from"),
            ("to=", "to"),
            ("tenant=other", "tenant"),
        ] {
            let answer = api.get_as(&service, &format!("{PATH}?{query}")).await;
            assert_eq!(answer.problem(), (422, "invalid_fields".to_owned()), "{query}: {}", answer.text);
            assert_eq!(answer.json()["errors"][0]["field"], field, "{query}");
        }
    })
    .await;
}

#[tokio::test]
async fn parties_see_their_order_without_personal_data_and_nobody_else_sees_it() {
    each_engine(async |db| {
        let api = Api::new(db);
        api.remember("shop", "o-1", life_of_an_order("shop", "o-1")).await;
        for (subject, role, sees) in [
            ("ana", Role::Buyer, true),
            ("sam", Role::Seller, true),
            ("ana", Role::Seller, false),
            ("sam", Role::Buyer, false),
            ("eve", Role::Buyer, false),
        ] {
            let answer = api.get_as(&api.token(subject, &[role], "shop"), PATH).await;
            if sees {
                assert_eq!(types(&answer).len(), 3, "{subject} as {role}");
                assert!(!answer.text.contains("@example.com"), "{}", answer.text);
            } else {
                assert_eq!(answer.problem(), (404, "order_not_found".to_owned()), "{subject} as {role}");
            }
        }
        let service = api.get_as(&api.token("erp", &[Role::Service], "shop"), PATH).await;
        assert!(service.text.contains("ana@example.com"), "{}", service.text);
    })
    .await;
}

#[tokio::test]
async fn card_numbers_are_shown_to_nobody() {
    each_engine(async |db| {
        let api = Api::new(db);
        let mut events = life_of_an_order("shop", "o-1");
        let factory = Factory::new("shop", "shop");
        events.push(factory.order_cancelled("o-1", 4_000, "charged 4111 1111 1111 1111 twice").into());
        let mut disputed = factory.dispute_initiated("o-1", 5_000, "d-1", "ana", "fraud");
        disputed.description = Some("my card 4111111111111111 was used".to_owned());
        events.push(disputed.into());
        api.remember("shop", "o-1", events).await;
        for (subject, role) in [("erp", Role::Service), ("ana", Role::Buyer)] {
            let answer = api.get_as(&api.token(subject, &[role], "shop"), PATH).await;
            assert_eq!(types(&answer).len(), 5);
            assert!(!answer.text.contains("4111"), "{role}: {}", answer.text);
        }
    })
    .await;
}

#[tokio::test]
async fn two_tenants_with_equal_order_and_user_ids_see_nothing_of_each_other() {
    each_engine(async |db| {
        let api = Api::new(db);
        for tenant in ["shop", "other"] {
            api.remember(tenant, "o-1", life_of_an_order(tenant, "o-1")).await;
        }
        api.remember("shop", "o-2", life_of_an_order("shop", "o-2")).await;
        for (tenant, foreign) in [("shop", "JD-other"), ("other", "JD-shop")] {
            for (subject, role) in [("ana", Role::Buyer), ("erp", Role::Service)] {
                let answer = api.get_as(&api.token(subject, &[role], tenant), PATH).await;
                assert!(answer.text.contains(&format!("JD-{tenant}")), "{}", answer.text);
                assert!(!answer.text.contains(foreign), "{tenant} as {role}");
                assert_eq!(answer.json()["count"], 3);
            }
        }
        let foreign = api.token("erp", &[Role::Service], "other");
        let theirs = api.get_as(&foreign, "/api/v1/orders/o-2/events").await;
        let nobodys = api.get_as(&foreign, "/api/v1/orders/o-3/events").await;
        assert_eq!(theirs.problem(), nobodys.problem(), "another tenant's order is as unknown as none");
    })
    .await;
}

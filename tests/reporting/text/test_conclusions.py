from support import fake_records as fake

from paretune.reporting.text.conclusions import describe_protocol


def test_a_search_is_said_only_where_rates_were_tried() -> None:
    three = describe_protocol(fake.study(protocol={"trials": 3, "seeds": [1, 2], "folds": 1}))
    assert "every method tried 3 learning rates with a tuning seed" in three
    one = describe_protocol(fake.study(protocol={"trials": 1, "seeds": [1, 2], "folds": 1}))
    assert "every method ran at one learning rate, and no other was tried" in one
    assert (
        "scores are of 2 fresh seeds, on rows that no selection has used" in one
        and "tuning" not in one
    )

"""The search space: what is tried for which graph and machine."""

from brownfield.fit.candidates import Candidate, recipes, sessions


def test_every_candidate_has_a_name_of_its_own() -> None:
    """Reasons and journal go by the name."""
    space = [
        Candidate(recipe=recipe, session=session).name
        for recipe in recipes(["Conv", "MatMul"], vnni=True, calibrated=True)
        for session in sessions(4)
    ]
    assert len(set(space)) == len(space) == 7 * 4


def test_nothing_is_quantised_without_rows_to_judge_by() -> None:
    """Accuracy on invented rows proves nothing."""
    assert not any(recipe.quantised for recipe in recipes(["MatMul"], vnni=True, calibrated=False))


def test_dynamic_int8_is_for_matrices_alone() -> None:
    """The engine has no fast convolution for scales of each request."""
    assert "dynamic" not in {recipe.kind for recipe in recipes(["Conv"], vnni=True, calibrated=True)}
    dynamic = next(r for r in recipes(["Conv", "Gemm"], vnni=True, calibrated=True) if r.kind == "dynamic")
    assert dynamic.operators == ("MatMul", "Gemm")


def test_a_processor_without_vnni_gets_seven_bits() -> None:
    """Eight would overflow between two products."""
    assert all(recipe.reduce_range for recipe in recipes(["Gemm"], vnni=False, calibrated=True) if recipe.quantised)


def test_threads_end_at_the_usable_cores() -> None:
    """One core leaves one thread."""
    assert [session.threads for session in sessions(1)] == [1, 1]
    assert [session.threads for session in sessions(5)] == [1, 1, 2, 4]

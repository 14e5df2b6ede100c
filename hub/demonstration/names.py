"""Names that people in an English county have, by where their families come from. Combined at random, never copied."""

from random import Random

# fmt: off
# weight, women's names, men's names, family names
ORIGINS: tuple[tuple[int, tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    (
        78,
        (
            "Margaret", "Jean", "Doreen", "Sheila", "Pauline", "Christine", "Maureen", "Patricia", "Susan", "Linda",
            "Barbara", "Janet", "Brenda", "Gillian", "Rosemary", "Hazel", "Marion", "Beryl", "Joyce", "Iris", "Carol",
            "Sandra", "Elaine", "Julie", "Karen", "Tracey", "Alison", "Heather", "Wendy", "Sarah", "Emma", "Rachel",
            "Laura", "Charlotte", "Hannah", "Bethany", "Mavis", "Edna", "Winifred", "Kathleen",
        ),
        (
            "Derek", "Brian", "Kenneth", "Raymond", "Ronald", "Dennis", "Roy", "Gordon", "Alan", "Keith", "Trevor",
            "Malcolm", "Clive", "Barry", "Roger", "Graham", "Terence", "Leslie", "Stanley", "Norman", "Arthur", "Eric",
            "Colin", "Nigel", "Kevin", "Stephen", "Gary", "Ian", "Simon", "Martin", "Andrew", "Paul", "Adam", "Luke",
            "Daniel", "Thomas", "Jack", "Harold", "Cyril", "Walter",
        ),
        (
            "Hembrow", "Sweet", "Vowles", "Coombes", "Loveridge", "Pople", "Chubb", "Tincknell", "House", "Baker",
            "Hooper", "Meaker", "Stuckey", "Rowsell", "Dyer", "Fouracre", "Sparkes", "Tucker", "Webb", "Hallett",
            "Perrott", "Winslade", "Govier", "Langdon", "Trott", "Bartlett", "Pitman", "Creed", "Gould", "Palfrey",
            "Dibble", "Norris", "Slade", "Symes", "Upham", "Yandle", "Wyatt", "Thorne", "Marsh", "Lock", "Hill",
            "Carter", "Evans", "Morgan", "Hughes", "Campbell", "Fraser", "Kelly", "Byrne", "Walsh", "Turner",
        ),
    ),
    (
        5,
        ("Agnieszka", "Katarzyna", "Danuta", "Halina", "Zofia", "Magdalena"),
        ("Andrzej", "Krzysztof", "Zbigniew", "Marek", "Tadeusz", "Piotr"),
        ("Nowak", "Wójcik", "Kowalczyk", "Zieliński", "Mazur", "Dąbrowski", "Pawlak"),
    ),
    (
        5,
        ("Meena", "Sunita", "Jaswinder", "Nasreen", "Shabnam", "Lakshmi", "Priya"),
        ("Rajesh", "Harbhajan", "Mohammed", "Imran", "Suresh", "Tariq", "Anil"),
        ("Patel", "Singh", "Kaur", "Hussain", "Begum", "Sharma", "Rahman", "Chaudhry", "Nair"),
    ),
    (
        4,
        ("Beverley", "Yvonne", "Marcia", "Ngozi", "Abena", "Grace", "Folasade"),
        ("Winston", "Delroy", "Errol", "Chidi", "Kwame", "Emmanuel", "Babatunde"),
        ("Grant", "Francis", "Okafor", "Mensah", "Bailey", "Adeyemi", "Boateng", "Clarke"),
    ),
    (
        3,
        ("Maria", "Fátima", "Ana", "Lucília", "Elena", "Mihaela"),
        ("José", "António", "Carlos", "Manuel", "Ion", "Gheorghe"),
        ("Fernandes", "da Silva", "Pereira", "Sousa", "Popescu", "Ionescu", "Almeida"),
    ),
    (
        3,
        ("Mei Ling", "Siew", "Yuk", "Maricel", "Rosario", "Jocelyn"),
        ("Wai", "Kin", "Jun", "Rodel", "Ernesto", "Chee"),
        ("Wong", "Chan", "Lau", "Reyes", "Santos", "Dela Cruz", "Cheung"),
    ),
    (
        2,
        ("Fatemeh", "Leyla", "Nadia", "Oksana", "Halyna", "Rania"),
        ("Ahmad", "Yusuf", "Mehmet", "Oleksandr", "Bohdan", "Karim"),
        ("Hosseini", "Yılmaz", "Haddad", "Kovalenko", "Shevchuk", "Mansour"),
    ),
)

SHORT_FORMS = {
    "Margaret": "Peggy", "Patricia": "Pat", "Christine": "Chris", "Susan": "Sue", "Barbara": "Babs", "Gillian": "Gill",
    "Rosemary": "Rose", "Winifred": "Win", "Kathleen": "Kath", "Kenneth": "Ken", "Raymond": "Ray", "Ronald": "Ron",
    "Terence": "Terry", "Leslie": "Les", "Stanley": "Stan", "Stephen": "Steve", "Thomas": "Tom", "Katarzyna": "Kasia",
    "Krzysztof": "Kris", "Zbigniew": "Zbyszek", "Jaswinder": "Jas", "Mohammed": "Mo", "Maureen": "Mo",
    "Beverley": "Bev", "Folasade": "Sade", "Emmanuel": "Manny", "António": "Tony", "Oleksandr": "Sasha",
    "Andrew": "Andy", "Daniel": "Dan", "Bethany": "Beth", "Pauline": "Polly", "Doreen": "Dor", "Harold": "Harry",
}

# fmt: on
_WEIGHTS = [origin[0] for origin in ORIGINS]


_ORIGIN_OF = {family: number for number, origin in reversed(list(enumerate(ORIGINS))) for family in origin[3]}


def origin(family: str) -> int:
    """Index in ORIGINS of where a family name comes from."""
    return _ORIGIN_OF[family]


def draw(rng: Random, gender: str) -> tuple[str, str]:
    """A given and a family name for `female` or `male`."""
    _, women, men, families = rng.choices(ORIGINS, _WEIGHTS)[0]
    return rng.choice(women if gender == "female" else men), rng.choice(families)

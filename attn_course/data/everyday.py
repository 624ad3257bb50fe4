"""Plain sentences, thirty English and thirty Portuguese, written for this course to be translated.

They are of no corpus. The Portuguese ones do not translate the English ones.
"""

EVERYDAY = {
    "en-pt": (
        "The black cat sleeps in the white house.",
        "Good morning!",
        "Where is the train station?",
        "My sister bought a red car last week.",
        "I would like a cup of coffee, please.",
        "It is raining, so we will stay at home.",
        "He sat on the bank of the river.",
        "She went to the bank to get money.",
        "The children are playing in the garden.",
        "How much does this book cost?",
        "We have lived in a small village near the sea for ten years.",
        "The old man opened the green door slowly.",
        "Can you help me carry these boxes?",
        "Tomorrow I have to get up very early.",
        "The soup is too hot.",
        "They were tired, but they kept walking.",
        "I forgot my keys on the kitchen table.",
        "The doctor said that I should drink more water.",
        "Our neighbor has two dogs and a gray cat.",
        "If you finish your homework, we can go to the cinema.",
        "The blue bicycle belongs to my brother.",
        "Nobody answered the phone.",
        "This is the best cake I have ever eaten.",
        "The plane arrives at nine o'clock in the evening.",
        "Please close the window, because it is cold outside.",
        "She is reading a long letter from her grandmother.",
        "I do not know what he wants.",
        "The new teacher speaks three languages and plays the piano.",
        "After dinner we washed the dishes and listened to the radio.",
        "The wooden bridge over the narrow river was built by the farmers of the valley "
        "many years ago, and people still use it every day.",
    ),
    "pt-en": (
        "O cachorro branco dorme na casa velha.",
        "Boa noite!",
        "Onde fica a farmácia mais próxima?",
        "Meu irmão vendeu o carro azul ontem.",  # codespell:ignore
        "Eu queria um copo de água, por favor.",
        "Hoje faz muito calor.",
        "As crianças estão brincando na praia.",
        "Quanto custa esta camisa verde?",
        "Nós moramos em uma cidade pequena perto das montanhas.",
        "Ela comprou pão, leite e uma garrafa de vinho tinto.",
        "Você pode me ajudar com a lição de matemática?",
        "O ônibus chega às oito horas da manhã.",
        "Não encontrei as minhas chaves.",
        "A sopa está fria.",
        "Eles estavam cansados, mas continuaram a trabalhar.",  # codespell:ignore
        "Minha avó mora sozinha em um apartamento grande.",
        "O médico disse que preciso descansar mais.",
        "Feche a porta, porque está ventando.",
        "Se chover amanhã, vamos ficar em casa.",
        "Este é o melhor filme que já vi.",
        "A menina de vestido amarelo está cantando uma canção antiga.",
        "Ninguém sabe a resposta.",
        "Gosto de ler antes de dormir.",
        "O trem para Lisboa sai daqui a dez minutos.",
        "Ele esqueceu o guarda-chuva no escritório.",
        "Meus pais chegaram tarde porque havia muito trânsito.",  # codespell:ignore
        "A cadeira de madeira quebrou.",
        "Depois do almoço, fomos passear no parque com os nossos amigos.",
        "Eu não entendi o que o professor explicou.",
        "Quando eu era criança, passava as férias na fazenda dos "
        "meus tios, onde havia "  # codespell:ignore
        "cavalos, galinhas e um rio de água muito clara.",
    ),
}

_LEXICON = """
alone sozinha sozinho; answer resposta; apartment apartamento; beach praia; best melhor;
bicycle bicicleta; black preto preta; blue azul; book livro; bottle garrafa; boxes caixas;
bread pão; bridge ponte; brother irmão; bus ônibus; cake bolo; car carro; cat gato; chair cadeira;
chickens galinhas; child criança; children crianças; cinema cinema; clear clara; coffee café;
cold frio fria; cup xícara; dinner jantar; dishes pratos; doctor médico médica; dog cachorro cão;
dogs cachorros cães; door porta; dress vestido; early cedo; eight oito; evening noite; farm fazenda;
farmers agricultores; film filme; friends amigos; garden jardim; girl menina; glass copo;
grandmother avó; gray cinza; green verde; holidays férias; horses cavalos; hot quente; house casa;
keys chaves; kitchen cozinha; languages línguas; large grande; lesson lição; letter carta;
lisbon lisboa; long longa longo; lunch almoço; math matemática; milk leite; minutes minutos;
money dinheiro; morning manhã; mountains montanhas; narrow estreito estreita; neighbor vizinho;
new novo nova; night noite; nine nove; nobody ninguém; office escritório; old velho velha antigo
antiga; parents pais; park parque; people pessoas; pharmacy farmácia; phone telefone; piano piano;
plane avião; radio rádio; red vermelho vermelha tinto; river rio; sea mar; shirt camisa;
sister irmã; slowly lentamente; small pequeno pequena; song canção; soup sopa;
station estação; table mesa; teacher professor professora; ten dez; three três; tired cansado
cansados; tomorrow amanhã; town cidade; traffic trânsito; train trem; two dois; uncles tios;
valley vale; village aldeia; water água; week semana; white branco branca; window janela;
wine vinho; wooden madeira; years anos; yellow amarelo amarela; yesterday ontem
"""
# English words, each with the Portuguese ones that can translate it.
LEXICON = tuple(
    ((english,), tuple(portuguese))
    for english, *portuguese in (entry.split() for entry in _LEXICON.split(";"))
)

# An English word, two sentences that have it at one place, and how Portuguese says it in each.
SENSES = (
    (
        "bank",
        "He sat on the bank of the river.",
        "margem",
        "She went to the bank to get money.",
        "banco",
    ),
    ("plays", "She plays the piano.", "toca", "She plays football.", "joga"),
    (
        "table",
        "The table is made of wood.",
        "mesa",
        "The table has four columns of numbers.",
        "tabela",
    ),
    ("mouse", "The mouse eats cheese.", "rato", "The mouse has two buttons.", "mouse"),
    ("right", "The right answer is no.", "certa", "The right hand is cold.", "direita"),
    (
        "spring",
        "I like the spring flowers.",
        "primavera",
        "I like the spring water.",
        "nascente fonte",
    ),
    ("letter", "The letter has five pages.", "carta", "The letter A is red.", "letra"),
)
